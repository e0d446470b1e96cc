"""The recipe that suits a data set, a machine and a time, by stated rules; each is explained in docs/automatic.md."""

import math
from collections.abc import Mapping
from typing import Any

from ustoolkit.data.profile import Profile
from ustoolkit.training import automatic_start as rules
from ustoolkit.training.automatic_start import START, Choice, tuned
from ustoolkit.training.machine import Machine
from ustoolkit.training.network_choice import Cost, CostOf, choose_network, images_in_memory
from ustoolkit.training.network_size import NetworkSize, wanted_side
from ustoolkit.training.time_plan import Budget, TimePlan, plan_time


def choose(
    profile: Profile, machine: Machine, budget: Budget, cost_of: CostOf, own: Mapping[str, Any] | None = None
) -> list[Choice]:
    """Chooses every setting of a recipe that is not the toolkit's default.

    Args:
        profile: of the data set.
        machine: to train on.
        budget: the time there is.
        cost_of: asked for few networks, the usual one first.
        own: settings of the user, by dotted name; they stay, and the others are chosen to go with them.
    Returns:
        a choice for each setting of `START` and of `own`, and for some others; in the order of `START`.
    """
    own = own or {}
    network, cost, reason = choose_network(profile, machine, budget, cost_of, own)
    return settings_for(profile, machine, budget, network, cost, reason, own)


def settings_for(
    profile: Profile,
    machine: Machine,
    budget: Budget,
    network: NetworkSize,
    cost: Cost,
    reason: str = "",
    own: Mapping[str, Any] | None = None,
) -> list[Choice]:
    """Chooses every setting that goes with a network.

    Args:
        profile, machine, budget, own: as of `choose`.
        network: its size.
        cost: of it.
        reason: why it is this one.
    Returns:
        as of `choose`.
    """
    own = own or {}
    yours = [Choice(setting, value, "yours, by --set") for setting, value in own.items()]
    chosen = {choice.setting: choice for choice in START}
    for choices in (
        steps_choices(profile, machine, own),
        network_choices(profile, network, reason),
        data_choices(profile, machine, network),
        yours,
    ):
        chosen.update((choice.setting, choice) for choice in choices)
    for choice in _within_memory(chosen, machine, cost):
        if choice.setting not in own:
            chosen[choice.setting] = choice
    batch = min(chosen["training.batch_size"].value, profile.images)
    plan = plan_time(profile, budget, cost.seconds, cost.start_seconds, batch, own)
    for choice in (*plan.choices(str(cost)), *_against_overfitting(plan)):
        if choice.setting not in own:
            chosen[choice.setting] = choice
    return list(chosen.values())


def steps_choices(profile: Profile, machine: Machine, own: Mapping[str, Any] | None = None) -> list[Choice]:
    """Batch, branches, precision and rate: how a step is taken. No network needs to be known.

    Args:
        profile, machine, own: as of `choose`.
    """
    own = own or {}
    gpus = len(machine.gpu_bytes)
    batch, reason, one = _gpu_batch(profile.images, gpus) if gpus else (*_cpu_batch(profile.images), False)
    batch = own.get("training.batch_size", batch)
    choices = [Choice("training.batch_size", batch, reason), _rate(batch)]
    if one:
        choices.append(Choice("training.strategy", "one", f"too few images ({profile.images}) to share by {gpus} GPUs"))
    if not gpus:
        within = min(batch, profile.images)
        branches = max(1, min(machine.cores, rules.MOST_BRANCHES, within // rules.IMAGES_A_BRANCH))
        why = f"a part of the batch for each of {machine}, {rules.IMAGES_A_BRANCH} images or more in it"
        if branches == 1:
            why = "one core" if machine.cores == 1 else "too few images a step to be shared among cores"
        choices.append(Choice("training.branches", branches, why))
    if machine.precision != "float32":
        where = "GPUs" if gpus else "CPU"
        choices.append(Choice("training.precision", machine.precision, f"twice as quick on this machine's {where}"))
    return choices


def network_choices(profile: Profile, network: NetworkSize, reason: str) -> list[Choice]:
    """Input, depth, width and dropout of a network that was chosen."""
    levels = len(network.widths)
    deepest = min(network.image_size) // (network.stem * 2 ** (levels - 1))
    side, words = wanted_side(profile)
    wanted = f"wanted are {words}"
    if min(network.image_size) > side:
        wanted = f"{words}, are wanted, and there is time for more"
    choices = [
        Choice("data.image_size", list(network.image_size), f"{wanted}; {reason}"),
        Choice(
            "model.widths",
            list(network.widths),
            f"{levels} levels, so that the deepest has {deepest} pixels a side; {reason}",
        ),
    ]
    if profile.images < rules.FEW_IMAGES:
        why = f"few images ({profile.images}) are soon known by heart"
        choices.append(Choice("model.dropout", rules.FEW_IMAGES_DROPOUT, why))
        why = f"few images ({profile.images}) are changed more"
        choices += [Choice(setting, value, why) for setting, value in rules.FEW_IMAGES_AUGMENTATION.items()]
    return choices


def data_choices(profile: Profile, machine: Machine, network: NetworkSize) -> list[Choice]:
    """What follows from the shapes of images and lesions."""
    choices = []
    elongated = profile.aspect.high / profile.aspect.low
    if elongated > rules.ASPECTS_ALIKE:
        low, high = profile.aspect.low, profile.aspect.high
        why = f"width / height goes from {low:.2f} to {high:.2f}: padded, lesions keep their shape"
        choices.append(Choice("data.keep_aspect", True, why))
    if profile.several_regions > rules.SEVERAL_REGIONS:
        why = f"{profile.several_regions:.0%} of the masks have several regions"
        choices.append(Choice("inference.largest_component", False, why))
    needed = profile.images * math.prod(network.image_size) * 2
    if rules.CACHE_BYTES < needed <= rules.CACHE_SHARE * machine.memory_bytes:
        why = f"{needed / 1e9:.1f} GB of images, and {machine.memory_bytes / 1e9:.0f} GB of memory are free"
        choices.append(Choice("data.cache", "memory", why))
    return choices


def _against_overfitting(plan: TimePlan) -> list[Choice]:
    """More change of images that are gone through often."""
    seen = plan.epochs * plan.passes
    if seen < rules.LONG_EPOCHS:
        return []
    why = f"images that are seen {seen} times are changed more"
    return [Choice(setting, value, why) for setting, value in rules.LONG_AUGMENTATION.items()]


def _within_memory(chosen: Mapping[str, Choice], machine: Machine, cost: Cost) -> list[Choice]:
    """A batch that the memory holds, where it does not hold the one chosen."""
    devices = 1 if chosen["training.strategy"].value == "one" else max(1, len(machine.gpu_bytes))
    batch = wanted = chosen["training.batch_size"].value
    while batch > devices and batch > devices * images_in_memory(machine, cost):
        batch //= 2
    if batch == wanted:
        return []
    batch = max(batch, devices)
    branches = max(1, min(chosen["training.branches"].value, batch // rules.IMAGES_A_BRANCH))
    why = f"the memory holds no batch of {wanted}"
    return [Choice("training.batch_size", batch, why), Choice("training.branches", branches, why), _rate(batch)]


def _cpu_batch(images: int) -> tuple[int, str]:
    batch = wanted = tuned("training.batch_size")
    while batch > 1 and batch > images / 2:
        batch //= 2
    return batch, "as tuned by hand" if batch == wanted else f"two or more steps through {images} images"


def _gpu_batch(images: int, gpus: int) -> tuple[int, str, bool]:
    """Images a step, why, and whether one GPU is enough for them."""
    each = rules.IMAGES_A_GPU_IF_MANY if images >= rules.MANY_IMAGES_A_GPU * gpus else tuned("training.batch_size")
    while each > rules.FEWEST_IMAGES_A_GPU and each * gpus > images / rules.STEPS_A_PASS:
        each //= 2
    if gpus > 1 and each * gpus > images / 2:
        batch, reason, _ = _gpu_batch(images, 1)
        return batch, reason, True
    if each * gpus > images / 2:
        return *_cpu_batch(images), False
    return each * gpus, f"{each} images a GPU, {images // (each * gpus)} steps a pass", False


def _rate(batch: int) -> Choice:
    """The rate tuned at another batch goes with the root of its size, as Krizhevsky, One weird trick, 2014."""
    rate, usual = tuned("training.learning_rate"), tuned("training.batch_size")
    factor = min(rules.MOST_RATE_FACTOR, math.sqrt(batch / usual))
    why = "as tuned by hand" if batch == usual else f"{rate:g} at {usual} images a step, with the root of their number"
    return Choice("training.learning_rate", float(f"{rate * factor:.2g}"), why)
