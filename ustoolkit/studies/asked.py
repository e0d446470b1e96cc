"""What is asked of a study, checked before anything is trained."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ustoolkit.errors import RecipeError, RunError
from ustoolkit.recipe.validation import nearest
from ustoolkit.studies.comparison import SECOND, Arm, Study

PRETRAINING = "pretraining"
_PRETRAINING_RECORDS, _SECOND_RECORDS = "--pretraining-records", "--second-records"
_MOST = 1000  # seeds or folds
_FULL_SIZE = "full size, since in a preview they are the same as another"


@dataclass(frozen=True)
class StudyOptions:
    """What is asked of a study.

    Attributes:
        records: folder to train and test on.
        out: folder of the study.
        splits: a `splits.json`; None for the one in the records folder.
        seeds: how many, from 0 on.
        preview: whether each recipe is made small by its `[preview]`.
        changes: 'table.key=value', for every arm, and for pre-training where that does not set it itself.
        only: names of the arms to train, or patterns of them such as 'relu-*'; none for all.
        jobs: how many runs at a time; 0 for one a core.
        overwrite: whether runs that differ from what is asked are trained again.
        pretraining_records: folder, with its own `splits.json`, to pre-train on; None to leave out the arms that start
            from that.
        second_records: folder of other images that the study repeats on; None to leave out the arms that do.
        folds: patient-wise folds that each arm is trained on; 0 for the split that is given; None for the study's own.
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
    pretraining_records: Path | None = None
    second_records: Path | None = None
    folds: int | None = None


def folds_of(study: Study, options: StudyOptions) -> tuple[int, ...]:
    """Numbers of the folds, from 1 on; only 0, which stands for the split that is given, where there are none."""
    count = study.folds if options.folds is None else options.folds
    return tuple(range(1, count + 1)) if count else (0,)


def left_out(study: Study, options: StudyOptions) -> dict[str, str]:
    """Names of the arms and fusions that are left out, in order, and what they need: the option that names records."""
    lacking = {}
    for arm in study.arms:
        if arm.full_size and options.preview:
            lacking[arm.name] = _FULL_SIZE
        elif arm.pretraining and not options.pretraining_records:
            lacking[arm.name] = _PRETRAINING_RECORDS
        elif arm.images == SECOND and not options.second_records:
            lacking[arm.name] = _SECOND_RECORDS
    for fusion in study.fusions:
        reasons = [lacking[name] for name in fusion.of if name in lacking]
        if reasons:
            lacking[fusion.name] = reasons[0]
    return lacking


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is one of `StudyOptions.only`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_asked(study: Study, options: StudyOptions) -> None:
    """Checks what is asked for.

    Raises:
        RecipeError: an arm has no such name or needs records that are not named, or a setting is what the arms compare.
        RunError: no seed is asked for, or folds that cannot be.
    """
    if not 1 <= options.seeds <= _MOST:
        raise RunError(f"--seeds {options.seeds}: expected 1 to {_MOST}. Leave it out for {study.seeds}.")
    _check_folds(study, options)
    _check_only(study, options)
    _check_changes(study, options.changes)


def _check_folds(study: Study, options: StudyOptions) -> None:
    folds = study.folds if options.folds is None else options.folds
    if not folds:
        return
    if not 2 <= folds <= _MOST:
        raise RunError(f"--folds {folds}: expected 2 to {_MOST}, or 0 for the split that is given.")
    if options.splits:
        raise RunError(f"--splits {options.splits}: folds are drawn anew. Leave it out, or say --folds 0.")
    if study.protocols or study.fusions:
        raise RunError(f"--folds {folds}: the study '{study.name}' cannot be cross-validated. Leave it out.")


def _check_only(study: Study, options: StudyOptions) -> None:
    steps = study.ladder.steps if study.ladder else ()
    names = [arm.name for arm in (*study.arms, *steps)] + [fusion.name for fusion in study.fusions]
    names += [f"{PRETRAINING}/{arm.name}" for arm in study.pretraining]
    lacking = left_out(study, options)
    if not options.pretraining_records:
        lacking |= {name: _PRETRAINING_RECORDS for name in names if name.startswith(f"{PRETRAINING}/")}
    for pattern in options.only:
        meant = [name for name in names if matches(name, [pattern])]
        if not meant:
            raise RecipeError(f"--only {pattern}: the study '{study.name}' has no such arm. {nearest(pattern, names)}")
        reasons = [lacking[name] for name in meant if name in lacking]
        if len(reasons) == len(meant):
            what = {
                _PRETRAINING_RECORDS: "pre-training, and there are no records to pre-train on. Name some, of natural "
                f"images, by {_PRETRAINING_RECORDS} DIR",
                _SECOND_RECORDS: f"other images. Name their records by {_SECOND_RECORDS} DIR",
                _FULL_SIZE: f"{_FULL_SIZE}. Leave out --preview",
            }
            raise RecipeError(f"--only {pattern}: this needs {what[reasons[0]]}.")


def _check_changes(study: Study, changes: Sequence[str]) -> None:
    arms: tuple[Arm, ...] = (*study.arms, *(study.ladder.steps if study.ladder else ()))
    compared = {"training.seed", *_keys(override for arm in arms for override in arm.overrides)}
    if study.pretraining:
        compared.add("training.initial_weights")
    for key in _keys(changes):
        wider = "model" if key == "model.name" else key  # which starts the table afresh
        clash = [
            other
            for other in sorted(compared)
            if f"{other}.".startswith(f"{wider}.") or f"{key}.".startswith(f"{other}.")
        ]
        if clash:
            raise RecipeError(f"--set {key}: the study '{study.name}' sets {clash[0]} itself. Leave it out.")


def _keys(overrides: Iterable[str]) -> list[str]:
    return [override.partition("=")[0].strip() for override in overrides]
