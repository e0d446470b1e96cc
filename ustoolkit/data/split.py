"""Who is in which part: patients are never divided, classes are spread evenly, and the result is a small file."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ustoolkit.data.records import IndexRow, Records
from ustoolkit.errors import RecordsError
from ustoolkit.files import read_json, write_json
from ustoolkit.recipe.data_set import SplitSettings

PARTS = ("train", "validation", "test")
_MOST_FOLDS = 20
_FEWEST_FOLDS = 10  # with fewer, a share would be rounded too far
Splits = dict[str, list[str]]
_DEFAULTS = SplitSettings()


def split_patients(
    index: Iterable[IndexRow],
    test: float = _DEFAULTS.test,
    validation: float = _DEFAULTS.validation,
    seed: int = _DEFAULTS.seed,
    fold_attribute: str = _DEFAULTS.fold_attribute,
    test_folds: Iterable[str] = _DEFAULTS.test_folds,
) -> Splits:
    """Divides annotated images into train, validation and test, whole patients at a time, stratified by label.

    Patients who share a picture are taken as one. Images without a mask are in no part.

    Args:
        index: the records' index.
        test: share of the images to test on; not used where `test_folds` says which.
        validation: share of the other images to validate on.
        seed: another seed, another draw.
        fold_attribute: an attribute that holds each image's fold, such as 'Fold'.
        test_folds: values of that attribute that make up the test part.
    Returns:
        lists of source ids for 'train', 'validation' and 'test'.
    Raises:
        RecordsError: too few patients, an unknown attribute or fold, or folds that divide a patient.
    """
    rows = [row for row in index if row.lesion_fraction is not None]
    if not rows:
        raise RecordsError("no image has a mask; there is nothing to train on. Annotate some images.")
    if fold_attribute:
        test_rows = _rows_of_folds(rows, fold_attribute, [str(fold) for fold in test_folds])
    else:
        test_rows = _draw(rows, test, seed, fewest=3)
    chosen = {row.source_id for row in test_rows}
    rest = [row for row in rows if row.source_id not in chosen]
    validation_rows = _draw(rest, validation, seed + 1, fewest=2)
    held_out = chosen | {row.source_id for row in validation_rows}
    splits = {
        "train": [row.source_id for row in rows if row.source_id not in held_out],
        "validation": [row.source_id for row in validation_rows],
        "test": [row.source_id for row in test_rows],
    }
    check_splits(splits, rows)
    if not splits["train"]:
        raise RecordsError("the split leaves nothing to train on. Lower --test or --validation, or add patients.")
    return splits


def check_splits(splits: Mapping[str, list[str]], index: Iterable[IndexRow]) -> None:
    """Checks that no image, no picture and no patient is in two parts, and that every image named exists.

    Raises:
        RecordsError: naming the image or patient.
    """
    rows = {row.source_id: row for row in index}
    part_of_patient: dict[str, str] = {}
    first_of_picture: dict[str, tuple[str, str]] = {}
    seen: set[str] = set()
    for part, source_ids in splits.items():
        for source_id in source_ids:
            if source_id not in rows:
                raise RecordsError(f"splits: '{source_id}' is not in the records. Split again with 'ustoolkit split'.")
            if source_id in seen:
                raise RecordsError(f"splits: '{source_id}' is named twice. Split again with 'ustoolkit split'.")
            seen.add(source_id)
            row = rows[source_id]
            twin, other = first_of_picture.setdefault(row.sha256 or source_id, (source_id, part))
            if other != part:
                raise RecordsError(
                    f"splits: '{twin}' in '{other}' and '{source_id}' in '{part}' are the same picture. Split "
                    "again with 'ustoolkit split', or leave one of them out of the data set."
                )
            other = part_of_patient.setdefault(row.patient_id, part)
            if other != part:
                raise RecordsError(
                    f"splits: patient '{row.patient_id}' is in both '{other}' and '{part}', which would test on "
                    "what was trained on. Split again with 'ustoolkit split'."
                )


def check_trainable(source_ids: Collection[str], records: Records, purpose: str) -> None:
    """Checks that a part has images, and a mask for each.

    Args:
        source_ids: of the part.
        records: where the images are.
        purpose: what the part is for, for the message.
    Raises:
        RecordsError: it has none, or images without a mask.
    """
    if not source_ids:
        raise RecordsError(
            f"{records.folder}: the part for {purpose} of the split has no images. Split again with another share, "
            f"such as 'ustoolkit split {records.folder} --validation 0.15'."
        )
    unlabelled = sorted({row.source_id for row in records.index if row.lesion_fraction is None} & set(source_ids))
    if unlabelled:
        raise RecordsError(
            f"{records.folder}: {len(unlabelled)} images for {purpose} have no mask ({', '.join(unlabelled[:3])}, …). "
            "Annotate them, or leave them out of the split."
        )


def several_regions(records: Records, source_ids: Collection[str]) -> float:
    """The share, 0 to 1, of a part's masks whose lesion lies in more than one piece."""
    chosen = set(source_ids)
    return sum(row.regions > 1 for row in records.index if row.source_id in chosen) / max(1, len(chosen))


def part_of(splits: Mapping[str, list[str]], part: str) -> list[str] | None:
    """Source ids of a part; None, for no choice, where the part is 'all'.

    Raises:
        RecordsError: there is no such part.
    """
    if part == "all":
        return None
    if part not in PARTS:
        raise RecordsError(f"--split {part}: expected one of {', '.join(PARTS)}, all.")
    return splits[part]


def write_splits(path: Path, splits: Splits, how: dict[str, Any]) -> None:
    """Writes `splits.json`: how it was drawn, and the source ids of each part."""
    write_json(path, {"how": how, "parts": splits})


def read_splits(path: Path, records: Records) -> Splits:
    """Reads and checks a `splits.json`.

    Raises:
        RecordsError: missing, not of this form, or not fitting the records.
    """
    remedy = "Make it with 'ustoolkit split RECORDS'."
    content = read_json(path, RecordsError, remedy)
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, dict) or set(parts) != set(PARTS) or not all(map(_is_names, parts.values())):
        raise RecordsError(f"{path}: expected the parts {', '.join(PARTS)}. {remedy}")
    check_splits(parts, records.index)
    return parts


def _rows_of_folds(rows: list[IndexRow], attribute: str, folds: list[str]) -> list[IndexRow]:
    known = sorted({str(row.attributes[attribute]) for row in rows if attribute in row.attributes})
    if not known:
        names = sorted({name for row in rows for name in row.attributes})
        raise RecordsError(f"no image has an attribute '{attribute}'; there are {', '.join(names) or 'none'}.")
    unknown = [fold for fold in folds if fold not in known]
    if unknown or not folds:
        raise RecordsError(
            f"attribute '{attribute}': expected --test-folds among {', '.join(known)}, "
            f"found {', '.join(folds) or 'none'}."
        )
    return [row for row in rows if str(row.attributes.get(attribute)) in folds]


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _draw(rows: list[IndexRow], share: float, seed: int, fewest: int) -> list[IndexRow]:
    """About `share` of the rows, whole patients, labels spread evenly."""
    if not 0 <= share < 1:
        raise RecordsError(f"expected a share of at least 0 and below 1, found {share}.")
    if share == 0 or not rows:
        return []
    group_of = _groups(rows)
    count = len(set(group_of.values()))
    if count < fewest:
        raise RecordsError(
            f"expected at least {fewest} patients to divide, found {count}. Add patients, or if each image "
            "is a patient of its own, leave out --patient."
        )
    commonest = max(Counter(row.label for row in rows).values())
    folds = min(_MOST_FOLDS, count)
    stratified = commonest >= min(_FEWEST_FOLDS, folds)  # else there are too few images to spread over the folds
    folds = min(folds, commonest) if stratified else folds
    # Rows are put in an order of the seed's own, so that the draw depends on ids alone, not on how they were listed.
    ordered = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.source_id}".encode()).digest())
    labels = [row.label if stratified else "" for row in ordered]
    groups = [group_of[row.patient_id] for row in ordered]
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label rarer than the folds is spread as far as it goes
        parts = [members for _, members in splitter.split(np.zeros(len(ordered)), labels, groups) if len(members)]
    # The splitter puts the largest patients into its first folds, so folds are taken in an order of the seed's own.
    parts = [parts[number] for number in np.random.default_rng(seed).permutation(len(parts))]
    wanted = share * len(rows)
    drawn: list[int] = []
    for members in parts:
        if abs(len(drawn) + len(members) - wanted) < abs(len(drawn) - wanted):
            drawn.extend(members)
    chosen = {ordered[member].source_id for member in drawn or min(parts, key=len)}
    return [row for row in rows if row.source_id in chosen]


def _groups(rows: list[IndexRow]) -> dict[str, str]:
    """A group for each patient: patients who share a picture, directly or through others, have one in common."""
    parent: dict[str, str] = {row.patient_id: row.patient_id for row in rows}

    def root(patient: str) -> str:
        while parent[patient] != patient:
            parent[patient] = patient = parent[parent[patient]]
        return patient

    owner: dict[str, str] = {}
    for row in rows:
        if row.sha256:
            parent[root(row.patient_id)] = root(owner.setdefault(row.sha256, row.patient_id))
    return {patient: root(patient) for patient in parent}
