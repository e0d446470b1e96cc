"""Who is in which part: patients and doubles are never divided, classes and lesion sizes are spread evenly.

The result is a small file, `splits.json`, to keep and to publish beside the scores:

    {"how": the settings it was drawn with,
     "ustoolkit": version, "records_digest": SHA-256, "balance": how even it is, "leaks": what it divides, if anything,
     "parts": {"train": [source ids], "validation": [...], "test": [...]}}
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from ustoolkit import __version__
from ustoolkit.data.leaks import check_splits, find_leaks, groups, is_made
from ustoolkit.data.records import IndexRow, Records
from ustoolkit.data.stratify import balance, draw_folds, draw_share
from ustoolkit.errors import RecordsError
from ustoolkit.files import read_json, write_json
from ustoolkit.recipe.data_set import SplitSettings

PARTS = ("train", "validation", "test")
"""What a data set is divided into."""
Splits = dict[str, list[str]]
"""Source ids by part."""
_DEFAULTS = SplitSettings()


def split_patients(
    index: Iterable[IndexRow],
    test: float = _DEFAULTS.test,
    validation: float = _DEFAULTS.validation,
    seed: int = _DEFAULTS.seed,
    fold_attribute: str = _DEFAULTS.fold_attribute,
    test_folds: Iterable[str] = _DEFAULTS.test_folds,
    allow_leak: bool = False,
) -> Splits:
    """Divides annotated images into train, validation and test, whole patients at a time.

    Patients who share a picture, or nearly the same one, are taken as one. Each part gets its share of each class, and
    of small and large lesions in it. Images without a mask are in no part; but where no image has one, those with a
    label are divided, to be classified.

    Args:
        index: the records' index.
        test: share of the images to test on; not used where `test_folds` says which.
        validation: share of the other images to validate on.
        seed: another seed, another draw.
        fold_attribute: an attribute that holds each image's fold, such as 'Fold'.
        test_folds: values of that attribute that make up the test part.
        allow_leak: whether folds of the data set may divide a patient or a picture.
    Returns:
        sorted lists of source ids for 'train', 'validation' and 'test'.
    Raises:
        RecordsError: too few patients, an unknown attribute or fold, or folds that divide a patient or a picture.
    """
    index = list(index)
    rows, group_of = _annotated(index), groups(index)
    if fold_attribute:
        tested = _rows_of_folds(rows, fold_attribute, [str(fold) for fold in test_folds])
    else:
        tested = draw_share(rows, test, seed, 3, group_of)
    return _with_validation(rows, tested, validation, seed + 1, group_of, allow_leak)


def split_folds(
    index: Iterable[IndexRow],
    folds: int,
    validation: float = _DEFAULTS.validation,
    seed: int = _DEFAULTS.seed,
    kept_test: Collection[str] = (),
) -> list[Splits]:
    """Divides annotated images for k-fold cross-validation: every image is tested exactly once.

    Args:
        index: the records' index.
        validation: as for `split_patients`, as is the seed.
        seed: another seed, another draw.
        folds: how many, 2 or more.
        kept_test: source ids that every fold tests on, so that nothing learns from them; the others are divided.
    Returns:
        one split a fold, each with 'train', 'validation' and 'test'.
    Raises:
        RecordsError: fewer patients than folds, or one who is kept for testing in part only.
    """
    index = list(index)
    rows, group_of = _annotated(index), groups(index)
    always = [row for row in rows if row.source_id in set(kept_test)]
    divided = [row for row in rows if row.source_id not in set(kept_test)]
    return [
        _with_validation(rows, [*tested, *always], validation, seed + number, group_of, False)
        for number, tested in enumerate(draw_folds(divided, folds, seed, group_of), start=1)
    ]


def split_own_folds(
    index: Iterable[IndexRow],
    fold_attribute: str,
    validation: float = _DEFAULTS.validation,
    seed: int = _DEFAULTS.seed,
    allow_leak: bool = False,
) -> dict[str, Splits]:
    """Divides annotated images by the data set's own folds, one after the other as the test part.

    Args:
        index: the records' index.
        fold_attribute: as for `split_patients`, as are the others.
        validation: share of the other images to validate on.
        seed: another seed, another draw.
        allow_leak: whether the folds may divide a patient or a picture.
    Returns:
        a split for each value of the attribute, in their order.
    Raises:
        RecordsError: no such attribute, fewer than two folds, or folds that divide a patient or a picture.
    """
    index = list(index)
    folds = _folds(_annotated(index), fold_attribute)
    if len(folds) < 2:
        raise RecordsError(f"attribute '{fold_attribute}': expected at least 2 folds, found {', '.join(folds)}.")
    return {
        fold: split_patients(index, 0, validation, seed, fold_attribute, [fold], allow_leak=allow_leak)
        for fold in folds
    }


def check_trainable(
    source_ids: Collection[str], records: Records, purpose: str, needs: Literal["mask", "label"] = "mask"
) -> None:
    """Checks that a part has images, and a mask or a label for each.

    Args:
        source_ids: of the part.
        records: where the images are.
        purpose: what the part is for, for the message.
        needs: 'mask' for segmentation, 'label' for classification.
    Raises:
        RecordsError: it has none, or images without a mask or label.
    """
    if not source_ids:
        raise RecordsError(
            f"{records.folder}: the part for {purpose} of the split has no images. Split again with another share, "
            f"such as 'ustoolkit split {records.folder} --validation 0.15'."
        )
    chosen = set(source_ids)
    lacking = sorted(
        row.source_id
        for row in records.index
        if row.source_id in chosen and (row.lesion_fraction is None if needs == "mask" else not row.label)
    )
    if lacking:
        raise RecordsError(
            f"{records.folder}: {len(lacking)} images for {purpose} have no {needs} ({', '.join(lacking[:3])}, …). "
            "Annotate them, or leave them out of the split."
        )


def several_regions(records: Records, source_ids: Collection[str]) -> float:
    """The share, 0 to 1, of a part's masks whose lesion lies in more than one piece."""
    chosen = set(source_ids)
    return sum(row.regions > 1 for row in records.index if row.source_id in chosen) / max(1, len(chosen))


def part_of(splits: Mapping[str, Sequence[str]], part: str) -> Sequence[str] | None:
    """Source ids of a part; None, for no choice, where the part is 'all'.

    Raises:
        RecordsError: there is no such part.
    """
    if part == "all":
        return None
    if part not in PARTS:
        raise RecordsError(f"--split {part}: expected one of {', '.join(PARTS)}, all.")
    return splits[part]


def measure(splits: Mapping[str, list[str]], index: Iterable[IndexRow]) -> dict[str, float]:
    """How evenly a split spreads classes and lesion sizes; see `stratify.balance`."""
    rows = {row.source_id: row for row in index}
    return balance({part: [rows[source_id] for source_id in ids] for part, ids in splits.items()})


def write_splits(path: Path, splits: Splits, how: dict[str, Any], records: Records | None = None) -> None:
    """Writes `splits.json`: how it was drawn, and the sorted source ids of each part.

    Args:
        path: the file.
        splits: source ids by part.
        how: the settings it was drawn with.
        records: what was divided, to say so, and how well.
    """
    content: dict[str, Any] = {"how": how, "ustoolkit": __version__}
    if records is not None:
        content["records_digest"] = records.digest
        content["balance"] = measure(splits, records.index)
        leaks = find_leaks(splits, records.index)
        if leaks:
            content["leaks"] = [asdict(leak) for leak in leaks]
    write_json(path, content | {"parts": {part: sorted(ids) for part, ids in splits.items()}})


def read_splits(path: Path, records: Records, allow_leak: bool = False) -> Splits:
    """Reads and checks a `splits.json`; with `allow_leak`, `find_leaks` tells what it divides.

    Raises:
        RecordsError: missing, not of this form, not fitting the records, or dividing what belongs together.
    """
    remedy = "Make it with 'ustoolkit split RECORDS'."
    content = read_json(path, RecordsError, remedy)
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, dict) or set(parts) != set(PARTS) or not all(map(_is_names, parts.values())):
        raise RecordsError(f"{path}: expected the parts {', '.join(PARTS)}. {remedy}")
    check_splits(parts, records.index, allow_leak)
    return parts


def _annotated(index: Collection[IndexRow]) -> list[IndexRow]:
    made = sorted(row.source_id for row in index if is_made(row))
    if made:
        raise RecordsError(
            f"{len(made)} images were made from training images ({', '.join(made[:3])}, …), so these records cannot "
            "be divided again. Split the records that they were expanded from, then expand those."
        )
    rows = [row for row in index if row.lesion_fraction is not None] or [row for row in index if row.label]
    if not rows:
        raise RecordsError("no image has a mask or a label; there is nothing to train on. Annotate some images.")
    return rows


def _with_validation(
    rows: list[IndexRow],
    tested: list[IndexRow],
    validation: float,
    seed: int,
    group_of: Mapping[str, str],
    allow_leak: bool,
) -> Splits:
    test = {row.source_id for row in tested}
    rest = [row for row in rows if row.source_id not in test]
    validated = {row.source_id for row in draw_share(rest, validation, seed, 2, group_of)}
    splits = {
        "train": sorted(row.source_id for row in rest if row.source_id not in validated),
        "validation": sorted(validated),
        "test": sorted(test),
    }
    check_splits(splits, rows, allow_leak)
    if not splits["train"]:
        raise RecordsError("the split leaves nothing to train on. Lower --test or --validation, or add patients.")
    return splits


def _folds(rows: list[IndexRow], attribute: str) -> list[str]:
    """The values of an attribute that some image has."""
    known = sorted({str(row.attributes[attribute]) for row in rows if attribute in row.attributes} - {""})
    if not known:
        names = sorted({name for row in rows for name in row.attributes})
        raise RecordsError(f"no image has an attribute '{attribute}'; there are {', '.join(names) or 'none'}.")
    return known


def _rows_of_folds(rows: list[IndexRow], attribute: str, folds: list[str]) -> list[IndexRow]:
    known = _folds(rows, attribute)
    unknown = [fold for fold in folds if fold not in known]
    if unknown or not folds:
        raise RecordsError(
            f"attribute '{attribute}': expected --test-folds among {', '.join(known)}, "
            f"found {', '.join(folds) or 'none'}."
        )
    return [row for row in rows if attribute in row.attributes and str(row.attributes[attribute]) in folds]


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
