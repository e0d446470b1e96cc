"""How far each run of a study is, and the commands that finish it."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ustoolkit.data.records import Records, is_records_folder
from ustoolkit.data.split import PARTS, Splits, read_splits
from ustoolkit.errors import UstoolkitError
from ustoolkit.run import Run
from ustoolkit.studies.asked import StudyOptions, folds_of, matches
from ustoolkit.studies.comparison import SECOND, Study
from ustoolkit.studies.fusions import fusion_commands, fusion_progress
from ustoolkit.studies.image_sets import draw_folds, prepare_images, split_of_records
from ustoolkit.studies.plan import Planned, PlannedFusion, PlannedRun
from ustoolkit.studies.protocols import prepare
from ustoolkit.studies.same_recipe import comparable
from ustoolkit.training.start import draw_images

PART = "test"
PART_WITH_CRF = f"{PART}-crf"
_BEGUN = {"manifest.json", "splits.json", "recipe.toml", "run.json"}  # all that is there before training begins

Progress = Literal["absent", "begun", "trained", "tuned", "finished", "different"]


class Opened(NamedTuple):
    """Records, and how they are divided: source ids by part."""

    records: Records
    splits: Splits


class StudyData:
    """What the runs of a study are trained and tested on, each opened once."""

    def __init__(self, options: StudyOptions, folds: bool = False) -> None:
        """Opens the records of the study, those to pre-train on, and the second ones.

        Args:
            options: name them.
            folds: whether folds are drawn, so that of the study's own no split is needed.
        Raises:
            RecordsError: one of them is missing, damaged, or does not fit.
        """
        self._opened: dict[tuple[Path, Path | None, bool], Opened] = {}
        self._pretraining = options.pretraining_records
        if options.pretraining_records:
            self._open(options.pretraining_records, None)
        for folder, splits in ((options.records, options.splits), (options.second_records, None)):
            if folder and not folds:
                self._open(folder, splits)
        self.records = self._records(options.records)
        if options.second_records:
            self._records(options.second_records)

    def of(self, run: PlannedRun) -> Opened | None:
        """What a run is trained on; None where its records are not named now, or its images are not prepared yet.

        Raises:
            RecordsError: it is missing, damaged, or does not fit.
        """
        if run.pretraining and not self._pretraining:
            return None
        made = bool(run.arm.images or run.arm.protocol)
        if made and not (is_records_folder(run.records) and (run.splits is None or run.splits.is_file())):
            return None
        return self._open(run.records, run.splits, allow_leak=bool(run.arm.protocol))

    def _open(self, folder: Path, splits: Path | None, allow_leak: bool = False) -> Opened:
        key = (folder, splits, allow_leak)
        if key not in self._opened:
            records = self._records(folder)
            parts = read_splits(splits or records.folder / "splits.json", records, allow_leak)
            self._opened[key] = Opened(records, parts)
        return self._opened[key]

    def _records(self, folder: Path) -> Records:
        known = (opened.records for (other, *_), opened in self._opened.items() if other == folder)
        return next(known, None) or Records(folder)


@dataclass(frozen=True)
class FinishedRuns:
    """What a study's own tables are made of.

    Attributes:
        runs: that are trained and scored, or fused and scored.
        options: what is asked of the study.
        missing: why others are not there, by name.
        left_out: names of the arms that are not trained, and the option that would name the records they need.
    """

    runs: Sequence[Planned]
    options: StudyOptions
    missing: Mapping[str, str]
    left_out: Mapping[str, str]


def prepare_data(
    study: Study, options: StudyOptions, data: StudyData, say: Callable[[str, bool], None] = lambda line, changed: None
) -> None:
    """Draws the folds and the splits of protocols, and prepares images, as far as they are needed and not there yet.

    Args:
        study: which.
        options: what is asked of it; only the arms that it names need images.
        data: of the study.
        say: called with what takes a while, and True.
    Raises:
        RecordsError: they cannot be drawn or prepared from these records.
        OutputError: the folder of the study cannot be written to.
    """
    out, folds = options.out, folds_of(study, options)
    if folds != (0,):
        draw_folds(data.records, out, len(folds))
        if options.second_records:
            draw_folds(Records(options.second_records), out, len(folds), f"{SECOND}-")
    if not (study.protocols or study.preparations):
        return
    splits = read_splits(split_of_records(options, folds[0]), data.records)
    chosen = [arm for arm in study.arms if not options.only or matches(arm.name, options.only)]
    protocols = [each for each in study.protocols if each.name in {arm.protocol for arm in chosen}]
    prepare(protocols, data.records, splits, out, options.seeds)
    for preparation in study.preparations:
        if preparation.name in {arm.images for arm in chosen}:
            say(f"images: {preparation.name}", True)
            prepare_images(preparation, data.records, splits, out)


def survey(planned: Sequence[Planned], data: StudyData) -> dict[str, tuple[Progress, str]]:
    """How far each run is, by name; a run that started from what is not there any more as asked is different.

    Args:
        planned: all runs, pre-training before what starts from it.
        data: what they are trained on.
    Returns:
        what `progress_of` says of each.
    """
    found = {run.name: progress_of(run, data) for run in planned if isinstance(run, PlannedRun)}
    folders = {run.name: run.folder for run in planned}
    for run in planned:
        if isinstance(run, PlannedFusion):
            whole = all(found[name][0] in ("trained", "finished") for name in run.needs)
            found[run.name] = (fusion_progress(run, PART) if whole else "absent"), ""
            continue
        if run.undecided:
            found[run.name] = "absent", ""
            continue
        for needed in run.needs:
            if needed not in found or found[run.name][0] in ("absent", "different"):
                continue
            stage, why = found[needed]
            if stage == "different":
                found[run.name] = "different", f"{needed}, which it started from, is: {why}"
            elif stage != "absent" and _started(folders[needed]) > _started(run.folder):
                found[run.name] = "different", f"{needed}, which it started from, was trained anew since"
    return found


def progress_of(planned: PlannedRun, data: StudyData) -> tuple[Progress, str]:
    """How far a run is, looked at alone.

    Returns:
        'absent', 'begun', 'trained' (neither tuned nor scored yet), 'tuned' (its CRF is), 'finished', or 'different'
        from what is asked now; and in what. A run that cannot be read counts as different.
    """
    if not (planned.folder / "run.json").is_file():
        return "absent", ""
    try:
        own = data.of(planned)
        if own is None:
            return "different", "it was trained on records that are not there, or not named now"
        run = Run(planned.folder)
        difference = _difference(run, planned, own)
    except UstoolkitError as problem:
        return "different", str(problem)
    if difference:
        return "different", difference
    undecided = planned.recipe.classifies and not (planned.folder / "decision.json").is_file()
    if run.state.get("status") != "finished" or undecided:
        return "begun", ""
    evaluations = () if planned.pretraining else (PART, PART_WITH_CRF) if planned.crf else (PART,)
    if all((run.evaluation(name) / "metrics.json").is_file() for name in evaluations):
        return "finished", ""
    return ("tuned" if planned.crf and _is_tuned(run) else "trained"), ""


def commands_of(
    planned: Planned, progress: Progress, options: StudyOptions, workers: int = 1
) -> tuple[tuple[str, ...], ...]:
    """The commands, as after `ustoolkit`, that finish a run which has come so far.

    Args:
        planned: the run.
        progress: as `survey` says; 'different' is trained again from the start.
        options: whether it is a preview.
        workers: processes that tuning and scoring with the CRF may take.
    """
    if progress == "finished":
        return ()
    if isinstance(planned, PlannedFusion):
        return fusion_commands(planned, progress == "trained", PART)
    scoring = _scoring(planned, progress, workers)
    if progress in ("trained", "tuned"):
        return scoring
    folder, records = str(planned.folder), ("--records", str(planned.records))
    if progress == "begun":  # its own recipe has the name that resuming compares, preview or not
        return (("train", f"{folder}/recipe.toml", *records, "--out", folder, "--resume"), *scoring)
    train = ["train", planned.arm.recipe, *records, "--out", folder]
    train += [word for override in planned.overrides for word in ("--set", override)]
    train += ["--splits", str(planned.splits)] if planned.splits else []
    train += ["--preview"] if options.preview and not planned.arm.quick else []
    train += ["--allow-leak"] if planned.arm.protocol else []
    return ((*train, *(["--overwrite"] if progress == "different" else [])), *scoring)


def clear_begun(folder: Path) -> None:
    """Removes what a run leaves that was interrupted before it had a `run.json`, and nothing else."""
    if folder.is_dir() and not (folder / "run.json").exists():
        names = [path.name for path in folder.iterdir()]
        if all(name in _BEGUN or name.startswith(".") for name in names):
            shutil.rmtree(folder)


def _scoring(planned: PlannedRun, progress: Progress, workers: int) -> tuple[tuple[str, ...], ...]:
    if planned.pretraining:
        return ()
    common = (str(planned.folder), "--records", str(planned.records))
    if planned.crf is None:
        return (("evaluate", *common, "--split", PART),)
    few = ("--workers", str(workers))
    search = ("--trials", str(planned.crf.trials), "--images", str(planned.crf.images))
    evaluate = ("evaluate", *common, "--split", PART, "--crf", *few)
    return (evaluate,) if progress == "tuned" else (("tune-crf", *common, *search, *few), evaluate)


def _is_tuned(run: Run) -> bool:
    """Whether the CRF is; where what was kept is damaged, tuning again says so and how to mend it."""
    try:
        return "crf" in run.tuned["evidence"]
    except UstoolkitError:
        return False


def _started(folder: Path) -> str:
    """When a run began, in ISO 8601, which sorts."""
    return str(Run(folder).state["started"])


def _difference(run: Run, planned: PlannedRun, data: Opened) -> str:
    """What a run has otherwise than asked, in words; '' where nothing."""
    found, asked = (comparable(recipe, bool(planned.crf)) for recipe in (run.recipe, planned.recipe))
    if found != asked:
        pairs = _different(found.model_dump(mode="json"), asked.model_dump(mode="json"))
        return "; ".join(f"{key} is {found!r} there, {asked!r} is asked" for key, found, asked in pairs)
    if run.manifest["digest"] != data.records.digest:
        return f"it was trained on other records than {data.records.folder}"
    drawn = draw_images(data.splits, planned.recipe.training)
    if any(set(run.splits[part]) != set(drawn[part]) for part in PARTS):
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
