"""Splits that ignore patients, drawn to show what that does to scores; never to judge a method by. No TensorFlow."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ustoolkit.data.records import IndexRow, Records
from ustoolkit.data.split import PARTS, Splits, write_splits
from ustoolkit.errors import RecordsError
from ustoolkit.files import read_json
from ustoolkit.recipe import validate
from ustoolkit.recipe.data_set import ExpansionSettings
from ustoolkit.studies.comparison import Protocol

_FOLDER = "protocols"
_VALIDATED = 0.25  # of the images that an expanded set leaves beside training; the others are tested on


def protocol_records(protocol: Protocol, out: Path) -> Path | None:
    """Folder of the records that a protocol makes and divides; None where they are the study's own.

    Args:
        protocol: which.
        out: folder of the study.
    """
    return _copies(protocol, out) if protocol.expand_to else None


def protocol_splits(protocol: Protocol, out: Path, seed: int) -> Path:
    """File of a protocol's split.

    Args:
        protocol: which.
        out: folder of the study.
        seed: of the runs.
    """
    return out / _FOLDER / protocol.name / f"seed{seed}.json"


def prepare(protocols: Iterable[Protocol], records: Records, splits: Splits, out: Path, seeds: int) -> None:
    """Makes the records and the splits of protocols; what is there already stays.

    Args:
        protocols: which.
        records: of the study.
        splits: the split that is given, by patient; its images are those that are divided anew.
        out: folder of the study.
        seeds: for how many of them a split is drawn.
    Raises:
        RecordsError: a label has too few images to be in every part, `expand_to` is below what is there, or what is
            there was made from other images.
        OutputError: the folder cannot be written to.
    """
    for protocol in protocols:
        divided = _expanded(protocol, records, splits, out) if protocol.expand_to else records
        counts = _counts(protocol, divided, splits)
        chosen = set().union(*splits.values()) if divided is records else None
        rows = [row for row in divided.index if chosen is None or row.source_id in chosen]
        for seed in range(seeds):
            drawn = draw_ignoring_patients(rows, counts, seed)
            how = {"protocol": protocol.name, "seed": seed, "expanded_to": protocol.expand_to}
            write_splits(protocol_splits(protocol, out, seed), drawn, how)


def draw_ignoring_patients(rows: Sequence[IndexRow], counts: Mapping[str, Mapping[str, int]], seed: int) -> Splits:
    """Divides images at random, whosever they are.

    Args:
        rows: the images.
        counts: how many images of each label each part gets, by part and label; all of them together.
        seed: another seed, another draw.
    Returns:
        sorted source ids by part.
    """
    generator = np.random.default_rng(seed)
    members = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.source_id):
        members[row.label].append(row.source_id)
    drawn: Splits = {part: [] for part in PARTS}
    for label in sorted(members):
        shuffled = generator.permutation(members[label]).tolist()
        for part in PARTS:
            count = counts[part].get(label, 0)
            drawn[part] += shuffled[:count]
            shuffled = shuffled[count:]
    return {part: sorted(ids) for part, ids in drawn.items()}


def _counts(protocol: Protocol, divided: Records, splits: Splits) -> dict[str, dict[str, int]]:
    """Images of each part and label: as many as the given split has, or shares of an expanded set."""
    label_of = {row.source_id: row.label for row in divided.index}
    if not protocol.expand_to:
        return {part: _tally(label_of[name] for name in ids) for part, ids in splits.items()}
    counts: dict[str, dict[str, int]] = {part: {} for part in PARTS}
    for label, found in _tally(label_of.values()).items():
        train = round(found * protocol.train / protocol.expand_to)
        validation = round((found - train) * _VALIDATED)
        test = found - train - validation
        if min(train, validation, test) < 1:
            raise RecordsError(
                f"{divided.folder}: {found} images labelled '{label}' are too few to be in every part. Add some."
            )
        for part, number in zip(PARTS, (train, validation, test), strict=True):
            counts[part][label] = number
    return counts


def _tally(labels: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for label in labels:
        counts[label] += 1
    return counts


def _copies(protocol: Protocol, out: Path) -> Path:
    return out / _FOLDER / protocol.name / "records"


def _expanded(protocol: Protocol, records: Records, splits: Splits, out: Path) -> Records:
    """Records of all images of the split with changed copies of them, before anything is divided."""
    from ustoolkit.data.expand import expand_records  # takes imgaug and imbalanced-learn along

    folder = _copies(protocol, out)
    settings = validate(ExpansionSettings, {"count": protocol.expand_to}, "expand")
    everything = sorted(name for ids in splits.values() for name in ids)
    whole = {"train": everything, "validation": [], "test": []}
    if not (folder / "splits.json").is_file():
        return expand_records(records, whole, folder, settings, overwrite=True)
    expanded, remedy = Records(folder), "Choose another --out, or remove this folder to have it made again."
    how = read_json(folder / "splits.json", RecordsError, remedy).get("how", {})
    originals = {row.source_id for row in expanded.index if "expanded_from" not in row.attributes}
    if how != {"expanded_from": records.digest, **settings.model_dump(mode="json")} or originals != set(everything):
        raise RecordsError(f"{folder}: expected copies of the images to divide, found those of others. {remedy}")
    return expanded
