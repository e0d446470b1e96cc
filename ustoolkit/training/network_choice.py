"""The largest U-net for which there are time, memory and images, by what networks cost. Plain Python."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ustoolkit.data.profile import Profile
from ustoolkit.training import automatic_start as rules
from ustoolkit.training.automatic_start import tuned
from ustoolkit.training.machine import Machine
from ustoolkit.training.network_size import NetworkSize, sizes_for
from ustoolkit.training.time_plan import Budget


@dataclass(frozen=True)
class Cost:
    """What a network costs on this machine.

    Attributes:
        seconds: of an image in a training step, all devices together, augmentation included.
        activation_bytes: that one image needs, as `models.cost.activation_bytes`.
        start_seconds: until the first step is done.
        measured: whether it was measured, or is estimated.
    """

    seconds: float
    activation_bytes: float
    start_seconds: float = 0.0
    measured: bool = True

    def __str__(self) -> str:
        """The time of an image in words, for a person."""
        return f"{1000 * self.seconds:.1f} ms an image, {'measured' if self.measured else 'estimated'}"


CostOf = Callable[[NetworkSize], Cost]


def choose_network(
    profile: Profile, machine: Machine, budget: Budget, cost_of: CostOf, own: Mapping[str, Any] | None = None
) -> tuple[NetworkSize, Cost, str]:
    """The largest network that there is time, memory and reason for.

    From the usual one it goes up while the next one fits, or down until one does. So more time or memory never give a
    smaller network.

    Args:
        profile: of the data set.
        machine: to train on.
        budget: the time there is.
        cost_of: asked for few networks, the usual one first.
        own: settings of the user, by dotted name.
    Returns:
        the network, its cost, and why it is this one.
    """
    own = own or {}
    image_size = tuple(own["data.image_size"]) if "data.image_size" in own else None
    widths = tuple(own["model.widths"]) if "model.widths" in own else None
    sizes, place = sizes_for(profile, own.get("model.stem", tuned("model.stem")), image_size, widths)
    refusal = _refusal(profile, machine, budget, cost_of(sizes[place]), rules.USUAL_WANTS)
    if refusal:
        reason = f"{sizes[place]} is not for this: {refusal}"
        while place and refusal:
            place -= 1
            refusal = _refusal(profile, machine, budget, cost_of(sizes[place]), rules.SMALLER_WANTS)
        return sizes[place], cost_of(sizes[place]), reason
    reason = "no larger one is chosen"
    while place + 1 < len(sizes):
        if profile.images < rules.FEW_IMAGES:
            reason = f"few images ({profile.images}) want no larger network"
            break
        refusal = _refusal(profile, machine, budget, cost_of(sizes[place + 1]), rules.LARGER_WANTS)
        if refusal:
            reason = f"{sizes[place + 1]} is not for this: {refusal}"
            break
        place += 1
    return sizes[place], cost_of(sizes[place]), reason


def images_in_memory(machine: Machine, cost: Cost) -> int:
    """Images that one GPU, or the whole CPU, can train on at once, by what a network's layers put out for one."""
    memory = machine.gpu_bytes[0] if machine.gpu_bytes else machine.memory_bytes
    return int(rules.MEMORY_SHARE * memory / (rules.MEMORY_FACTOR * max(1.0, cost.activation_bytes)))


def _refusal(profile: Profile, machine: Machine, budget: Budget, cost: Cost, wants: tuple[int, int, int]) -> str:
    """Why there is no time or memory for a network that wants so much training; '' where there is."""
    held = images_in_memory(machine, cost)
    if held < min(rules.FEWEST_IMAGES_IN_MEMORY, profile.images):
        return f"the memory holds {held} images of a batch"
    epochs, least, most = wants
    wanted = min(most, max(least, epochs * profile.images))
    possible = budget.training_seconds(profile.counts, cost.seconds, cost.start_seconds) / cost.seconds
    if possible < wanted:
        return f"{possible:,.0f} images pass in the time, {wanted:,} are wanted ({cost})"
    return ""
