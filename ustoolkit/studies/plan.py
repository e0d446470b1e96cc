"""The runs of a study: what each should be, and what lies in its folder already."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ustoolkit.data.records import Records
from ustoolkit.data.split import Splits, read_splits
from ustoolkit.errors import RecipeError, RunError, UstoolkitError
from ustoolkit.recipe import Recipe, load_recipe
from ustoolkit.recipe.toml import nearest
from ustoolkit.run import Run
from ustoolkit.studies.comparison import Arm, Study

PART = "test"
_BEGUN = {"manifest.json", "splits.json", "recipe.toml", "run.json"}  # all that is there before training begins

Progress = Literal["absent", "begun", "trained", "finished", "different"]


@dataclass(frozen=True)
class StudyOptions:
    """What is asked of a study.

    Attributes:
        records: folder to train and test on.
        out: folder of the study.
        splits: a `splits.json`; None for the one in the records folder.
        seeds: how many, from 0 on.
        preview: whether each recipe is made small by its `[preview]`.
        changes: 'table.key=value', for every arm.
        only: names of the arms to train; none for all.
        jobs: how many runs at a time; 0 for one a core.
        overwrite: whether runs that differ from what is asked are trained again.
    """

    records: Path
    out: Path
    splits: Path | None = None
    seeds: int = 3
    preview: bool = False
    changes: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    jobs: int = 0
    overwrite: bool = False


@dataclass(frozen=True)
class PlannedRun:
    """One arm with one seed.

    Attributes:
        arm: which.
        seed: of weights, order, augmentation, noise and dropout.
        folder: its run folder.
        overrides: of the arm's recipe: the user's, the arm's, and the seed.
        recipe: resolved.
    """

    arm: Arm
    seed: int
    folder: Path
    overrides: tuple[str, ...]
    recipe: Recipe

    @property
    def name(self) -> str:
        """Arm and seed, as its folder is called."""
        return f"{self.arm.name}/seed{self.seed}"


@dataclass(frozen=True)
class StudyData:
    """What every run of a study is trained and tested on.

    Attributes:
        records: opened.
        splits: source ids by part.
    """

    records: Records
    splits: Splits


def open_data(options: StudyOptions) -> StudyData:
    """Opens the records and the split.

    Raises:
        RecordsError: one of them is missing, damaged, or does not fit.
    """
    records = Records(options.records)
    return StudyData(records, read_splits(options.splits or records.folder / "splits.json", records))


def plan_runs(study: Study, options: StudyOptions) -> list[PlannedRun]:
    """The runs of a study, seed by seed over all arms, so that a study cut short has as many seeds of each.

    Raises:
        RecipeError: a recipe or a setting is not valid, an arm has no such name, or a setting is what the arms compare.
        RunError: no seed is asked for.
    """
    if options.seeds < 1:
        raise RunError(f"--seeds {options.seeds}: expected 1 or more. Leave it out for 3.")
    names = [arm.name for arm in study.arms]
    for name in options.only:
        if name not in names:
            raise RecipeError(f"--only {name}: the study '{study.name}' has no such arm. {nearest(name, names)}")
    _check_changes(study, options.changes)
    planned = []
    for seed in range(options.seeds):
        for arm in study.arms:
            overrides = (*options.changes, *arm.overrides, f"training.seed={seed}")
            recipe = load_recipe(arm.recipe, overrides, preview=options.preview)
            folder = options.out / "runs" / arm.name / f"seed{seed}"
            planned.append(PlannedRun(arm, seed, folder, overrides, recipe))
    return planned


def progress_of(planned: PlannedRun, data: StudyData) -> tuple[Progress, str]:
    """How far a run is.

    Returns:
        'absent', 'begun', 'trained' (not scored yet), 'finished', or 'different' from what is asked now; and in what.
        A run that cannot be read counts as different.
    """
    if not (planned.folder / "run.json").is_file():
        return "absent", ""
    try:
        run = Run(planned.folder)
        difference = _difference(run, planned, data)
    except UstoolkitError as problem:
        return "different", str(problem)
    if difference:
        return "different", difference
    if run.state.get("status") != "finished":
        return "begun", ""
    return ("finished" if (run.evaluation(PART) / "metrics.json").is_file() else "trained"), ""


def commands_of(planned: PlannedRun, progress: Progress, options: StudyOptions) -> tuple[tuple[str, ...], ...]:
    """The commands, as after `ustoolkit`, that finish a run which has come so far.

    Args:
        planned: the run.
        progress: as `progress_of` says; 'different' is trained again from the start.
        options: where records and split lie.
    """
    folder, records = str(planned.folder), ("--records", str(options.records))
    evaluate = ("evaluate", folder, *records, "--split", PART)
    if progress == "finished":
        return ()
    if progress == "trained":
        return (evaluate,)
    if progress == "begun":  # its own recipe has the name that resuming compares, preview or not
        return (("train", f"{folder}/recipe.toml", *records, "--out", folder, "--resume"), evaluate)
    train = ["train", planned.arm.recipe, *records, "--out", folder]
    train += [word for override in planned.overrides for word in ("--set", override)]
    train += ["--splits", str(options.splits)] if options.splits else []
    train += ["--preview"] if options.preview else []
    return ((*train, *(["--overwrite"] if progress == "different" else [])), evaluate)


def clear_begun(folder: Path) -> None:
    """Removes what a run leaves that was interrupted before it had a `run.json`, and nothing else."""
    if folder.is_dir() and not (folder / "run.json").exists():
        names = [path.name for path in folder.iterdir()]
        if all(name in _BEGUN or name.startswith(".") for name in names):
            shutil.rmtree(folder)


def _difference(run: Run, planned: PlannedRun, data: StudyData) -> str:
    """What a run has otherwise than asked, in words; '' where nothing."""
    if run.recipe != planned.recipe:
        pairs = _different(run.recipe.model_dump(mode="json"), planned.recipe.model_dump(mode="json"))
        return "; ".join(f"{key} is {found!r} there, {asked!r} is asked" for key, found, asked in pairs)
    if run.manifest["digest"] != data.records.digest:
        return f"it was trained on other records than {data.records.folder}"
    parts = run.splits  # of which `training.images` may leave some out
    same = set(parts[PART]) == set(data.splits[PART])
    if not same or any(not set(parts[part]) <= set(data.splits[part]) for part in ("train", "validation")):
        return "it was trained on another split"
    return ""


def _different(found: object, asked: object, key: str = "") -> list[tuple[str, object, object]]:
    if isinstance(found, dict) and isinstance(asked, dict):
        keys = dict.fromkeys([*found, *asked])
        return [
            pair
            for name in keys
            for pair in _different(found.get(name), asked.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if found == asked else [(key, found, asked)]


def _check_changes(study: Study, changes: Sequence[str]) -> None:
    compared = {"training.seed", *_keys(override for arm in study.arms for override in arm.overrides)}
    for key in _keys(changes):
        clash = [other for other in compared if f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.")]
        if clash:
            raise RecipeError(f"--set {key}: the study '{study.name}' sets {clash[0]} itself. Leave it out.")


def _keys(overrides: Iterable[str]) -> list[str]:
    return [override.partition("=")[0].strip() for override in overrides]
