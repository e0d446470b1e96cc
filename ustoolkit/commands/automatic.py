"""The recipe that `ustoolkit train auto` plans before it trains."""

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ustoolkit.commands.console import warn
from ustoolkit.errors import RecipeError, RecordsError, RunError, UstoolkitError
from ustoolkit.files import write_text

if TYPE_CHECKING:
    from ustoolkit.data.records import Records
    from ustoolkit.recipe import Recipe
    from ustoolkit.training.automatic_start import Choice
    from ustoolkit.training.machine import Machine
    from ustoolkit.training.network_size import NetworkSize

AUTO = "auto"
PLAN_FILE = "auto.toml"  # in the run folder
_USUAL_SECONDS = 1800.0
_MEASURING_SHARE = 0.06  # of the budget
_BUSY = 5  # times the usual seconds of a step
_BYTES_A_SECOND = 3e8  # that checksums of the records are computed at


@dataclass(frozen=True)
class Planned:
    """A recipe that was planned.

    Attributes:
        recipe: to train.
        text: the same as TOML, with a reason for each setting.
        choices: setting, value and reason, JSON-serialisable.
    """

    recipe: "Recipe"
    text: str
    choices: list[dict[str, Any]]


def refuse_unfit(options: argparse.Namespace) -> None:
    """Checks that the options of `train` go together, as far as recipe 'auto' and its budget go.

    Raises:
        RecipeError: a budget for another recipe, or a preview of this one.
        RunError: a budget for a run that is resumed.
    """
    if options.budget is not None and options.recipe != AUTO:
        raise RecipeError(
            f"--budget: expected recipe '{AUTO}', which is chosen to fit a time, found '{options.recipe}'. Leave "
            "--budget out, or say how long with --set training.minutes=30."
        )
    if options.recipe == AUTO and options.preview:
        raise RecipeError(f"--preview: recipe '{AUTO}' has none. For a quick trial give it less time: --budget 2m.")
    if options.budget is not None and options.resume:
        raise RunError("--resume goes on with the run's own recipe, and its own time; leave out --budget.")


def plan(options: argparse.Namespace, overrides: list[str], records: "Records") -> Planned:
    """Chooses the recipe for records, this machine and a time; says what was chosen.

    Args:
        options: of `train`.
        overrides: strings 'table.key=value' that stay as they are.
        records: to train on.
    Raises:
        RecipeError: an override is not valid, or several machines are to train together.
        RecordsError: no image has a mask, the split cannot be used, or a part is empty.
    """
    began = time.perf_counter()
    from ustoolkit.training.machine import find_machine
    from ustoolkit.training.reasoned_recipe import own_settings, read_text, recipe_text

    own = own_settings(overrides)
    parts = _parts(options, own, records)
    _refuse_cluster(own)
    machine = find_machine()
    if own.get("training.strategy") == "one":
        machine = replace(machine, gpu_bytes=machine.gpu_bytes[:1])
    seconds = options.budget or _USUAL_SECONDS
    choices = _chosen(own, records, parts, machine, seconds, began)
    about = f"Chosen for {len(parts['train'])} images, {_in_words(seconds)} and {machine}"
    text = recipe_text(choices, about)
    recipe = read_text(text)
    height, width = recipe.data.image_size
    filters = ", ".join(map(str, getattr(recipe.model, "widths", ())))
    warn(f"{about}: input {height} × {width}, filters {filters}")
    warn(f"up to {recipe.training.epochs} epochs in {recipe.training.minutes:.1f} minutes; reasons in {PLAN_FILE}")
    return Planned(recipe, text, [vars(choice) for choice in choices])


@contextlib.contextmanager
def kept_plan(planned: Planned | None, folder: Path) -> Iterator[None]:
    """Keeps a plan in the run folder; and removes it again where the run could not begin.

    Args:
        planned: None for a recipe that was not planned; then nothing happens.
        folder: of the run.
    """
    if planned is not None:
        write_text(folder / PLAN_FILE, planned.text)
    try:
        yield
    except UstoolkitError:
        if planned is not None and not (folder / "run.json").is_file():
            (folder / PLAN_FILE).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _chosen(
    own: dict[str, Any],
    records: "Records",
    parts: dict[str, list[str]],
    machine: "Machine",
    seconds: float,
    began: float,
) -> list["Choice"]:
    """The settings: of a network chosen while it is measured, and of the time that is left then."""
    from ustoolkit.data.profile import profile_of
    from ustoolkit.training.automatic import settings_for
    from ustoolkit.training.network_choice import choose_network
    from ustoolkit.training.reasoned_recipe import read_text, recipe_text
    from ustoolkit.training.step_time import Costs, assumed_cost
    from ustoolkit.training.time_plan import Budget

    profile = profile_of(records, parts)

    def recipe_of(network: "NetworkSize") -> "Recipe":
        choices = settings_for(profile, machine, Budget(seconds), network, assumed_cost(network, machine), own=own)
        return read_text(recipe_text(choices, ""))

    measuring = _MEASURING_SHARE * seconds
    checking = sum(shard["bytes"] for shard in records.manifest["shards"]) / _BYTES_A_SECOND
    costs = Costs(recipe_of, records, parts["train"], machine, measuring)
    gone = time.perf_counter() - began + checking
    network, cost, reason = choose_network(profile, machine, Budget(seconds, gone + measuring), costs, own)
    idle = assumed_cost(network, machine)
    if cost.seconds > _BUSY * idle.seconds:
        warn(
            f"a step takes {cost.seconds / idle.seconds:.0f} times as long as on a machine like this one with nothing "
            "else to do, so a small network is planned. If this is busy with something else, plan again when it is not."
        )
    gone = time.perf_counter() - began + checking
    return settings_for(profile, machine, Budget(seconds, gone), network, cost, reason, own)


def _parts(options: argparse.Namespace, own: dict[str, Any], records: "Records") -> dict[str, list[str]]:
    """The split's parts, as training will draw from them."""
    from ustoolkit.data.split import check_trainable, read_splits
    from ustoolkit.recipe.training import TrainingSettings
    from ustoolkit.training.start import draw_images

    if all(row.lesion_fraction is None for row in records.index):
        raise RecordsError(
            f"{records.folder}: expected images with masks, found none. Recipe '{AUTO}' chooses a network that "
            "segments; draw masks, or train one that classifies, such as fast_classifier."
        )
    parts = read_splits(options.splits or records.folder / "splits.json", records, options.allow_leak)
    for part, purpose in (("train", "training"), ("validation", "validation")):
        check_trainable(parts[part], records, purpose)
    drawn = TrainingSettings(images=own.get("training.images", 0), seed=own.get("training.seed", 0))
    return draw_images(parts, drawn)


def _refuse_cluster(own: dict[str, Any]) -> None:
    """Each of several processes would measure, and choose, something else."""
    from ustoolkit.training.strategy import wanted_cluster

    if wanted_cluster(own.get("training.strategy", "auto")) is not None:
        raise RecipeError(
            f"recipe '{AUTO}' is chosen for one machine, and several are to train together. Let one of them choose it, "
            f"alone, and train RUN/{PLAN_FILE} on all."
        )


def _in_words(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"
