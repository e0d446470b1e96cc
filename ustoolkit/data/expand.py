"""A training part expanded to equal numbers of each class, as records of its own; validation and test stay as they are.

The split comes first: what is made for training is made from training images alone.
"""

import functools
import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.data.augment import Augmenter
from ustoolkit.data.leaks import check_splits, is_made
from ustoolkit.data.oversample import oversample
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records import IndexRow, Records, record_entries, write_records
from ustoolkit.data.regions import RegionCrop
from ustoolkit.data.sample import Sample
from ustoolkit.data.split import PARTS, Splits, check_trainable, write_splits
from ustoolkit.errors import DataError, RecordsError
from ustoolkit.recipe import DataSetSettings, validate
from ustoolkit.recipe.augmentation import AugmentationSettings
from ustoolkit.recipe.data_set import ExpansionSettings

_MOST_DRAWS = 16


@dataclass(frozen=True)
class AugmentedCopy:
    """Loads a changed copy of a stored image; an entry's `load`.

    The change hangs on the seed, the image's id and the copy's number alone. One that moves most of the lesion out of
    the picture is drawn again, since the label would then have nothing to show for it.

    Attributes:
        original: a training image.
        number: of the copy, from 1.
        settings: how far each change may go.
        seed: another seed, another change.
    """

    original: Callable[[], Sample]
    number: int
    settings: AugmentationSettings
    seed: int

    def __call__(self) -> Sample:
        """Draws the change and applies it to image and mask; the pixel spacing is no longer known."""
        whole = self.original()
        lesion = np.count_nonzero(whole.truth)
        least = lesion * (1 - self.settings.zoom) ** 2 / 2  # half of what the strongest zoom leaves
        augmenter, kept = _augmenter(self.settings, self.seed), -1
        for draw in range(_MOST_DRAWS):
            key = f"{whole.source_id}, draw {draw}" if draw else whole.source_id
            moved, moved_mask = augmenter(whole.image, whole.truth, key, self.number)
            visible = int(np.count_nonzero(moved_mask))
            if visible > kept:
                image, mask, kept = moved, moved_mask, visible
            if kept >= least:
                break
        return Sample(
            source_id=copy_id(whole.source_id, self.number),
            image=image,
            mask=mask,
            label=whole.label,
            patient_id=whole.patient_id,
            filename=whole.filename,
            attributes={"expanded_from": whole.source_id, "copy": self.number},
        )


@dataclass(frozen=True, eq=False)
class _Made:
    """Loads a sample that is there already; an entry's `load`."""

    sample: Sample

    def __call__(self) -> Sample:
        return self.sample


def expand_records(
    records: Records,
    splits: Splits,
    out: Path | str,
    settings: ExpansionSettings,
    workers: int = 0,
    overwrite: bool = False,
    allow_leak: bool = False,
) -> Records:
    """Writes records whose training part is expanded, with a `splits.json`.

    By 'augment', the training images are kept and changed copies of them added, `count` in all. By 'smote', every image
    becomes the region around its lesion, and synthetic regions without a mask join the training part.

    Args:
        records: where the images are; every shard is read and its checksum compared.
        splits: source ids by part, as drawn from these records.
        out: the folder to make.
        settings: the method, how many, and the seed.
        workers: processes; 0 for one a core.
        overwrite: whether records that are already there may be replaced.
        allow_leak: whether the split may divide a patient or a picture.
    Returns:
        the new records, opened. The same input gives the same bytes.
    Raises:
        RecordsError: a damaged shard, a split that leaks or cannot be trained on, a count below what is there, images
            that were expanded before, or classes too small for SMOTE.
        OutputError: the folder cannot be written.
    """
    if Path(out).resolve() == records.folder.resolve():
        raise RecordsError(f"{out}: these are the records to expand. Name another --out.")
    records.verify()
    check_splits(splits, records.index, allow_leak)
    check_trainable(splits["train"], records, "training")
    chosen = {source_id for ids in splits.values() for source_id in ids}
    if any(row.source_id in chosen and is_made(row) for row in records.index):
        raise RecordsError(f"{records.folder}: these records were expanded already. Expand those they were made from.")
    described = validate(DataSetSettings, records.manifest["settings"], str(records.folder / "manifest.json"))
    entries, made = (_regions if settings.method == "smote" else _copies)(records, splits, settings)
    taken = sorted(chosen & set(made))
    if taken:
        raise RecordsError(f"{records.folder}: '{taken[0]}' is the name of a new image too. Rename the image.")
    expanded = write_records(sorted(entries, key=lambda entry: entry.source_id), out, described, workers, overwrite)
    written = {row.source_id for row in expanded.index}
    parts = {part: [source_id for source_id in splits[part] if source_id in written] for part in PARTS}
    parts["train"] = sorted({*parts["train"], *made})
    how = {"expanded_from": records.digest, **settings.model_dump(mode="json")}
    write_splits(expanded.folder / "splits.json", parts, how, expanded)
    return expanded


def plan_copies(rows: Sequence[IndexRow], count: int, seed: int, option: str = "--count") -> dict[str, int]:
    """How many copies of each training image bring the classes to equal numbers, to within one.

    Args:
        rows: of the training part; an empty label is a class too.
        count: images in all, originals included; 0 for as many as the largest class has, of each.
        seed: another seed, other images for the copies that cannot be dealt out evenly.
        option: how the user says the count, for the message.
    Returns:
        copies by source id; 0 for an image that stays alone.
    Raises:
        RecordsError: the count is too small to keep every original.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        members[row.label].append(row.source_id)
    by_size = sorted(members, key=lambda label: (-len(members[label]), label))
    largest = len(members[by_size[0]])
    count = count or largest * len(by_size)
    each, over = divmod(count, len(by_size))
    target = {label: each + (number < over) for number, label in enumerate(by_size)}
    if any(target[label] < len(found) for label, found in members.items()):
        most = sum(len(found) == largest for found in members.values())
        raise RecordsError(
            f"expected {option} of at least {(largest - 1) * len(by_size) + most}, so that all {len(by_size)} classes "
            f"can equal '{by_size[0]}' with its {largest} training images, found {count}. Raise it."
        )
    copies: dict[str, int] = {}
    for label, found in members.items():
        few, more = divmod(target[label] - len(found), len(found))
        dealt = sorted(found, key=lambda name: hashlib.blake2b(f"{seed}/{name}".encode()).digest())
        copies |= {name: few + (number < more) for number, name in enumerate(dealt)}
    return copies


def copy_id(source_id: str, number: int) -> str:
    """The name of an augmented copy: `bus_0001-l+03` for the third of `bus_0001-l`."""
    return f"{source_id}+{number:02}"


def format_expansion(expanded: Records, parts: Mapping[str, Collection[str]]) -> str:
    """What was made, for a terminal: the training images of each class, and how many were made."""
    rows = {row.source_id: row for row in expanded.index}
    trained = [rows[source_id] for source_id in parts["train"]]
    labels: dict[str, int] = defaultdict(int)
    for row in trained:
        labels[row.label or "(none)"] += 1
    counts = ", ".join(f"{label} {count}" for label, count in sorted(labels.items()))
    made = sum(is_made(row) for row in trained)
    others = ", ".join(f"{part} {len(parts[part])}" for part in PARTS[1:])
    return f"train {len(trained)} ({counts}; {made} of them made), {others} in {expanded.folder}"


def _loaders(records: Records, source_ids: Iterable[str]) -> dict[str, Callable[[], Sample]]:
    """Loaders of some of the images, in the order of the records."""
    wanted = set(source_ids)
    return {entry.source_id: entry.load for entry in record_entries(records) if entry.source_id in wanted}


def _copies(records: Records, splits: Splits, settings: ExpansionSettings) -> tuple[list[Entry], list[str]]:
    """Entries of all parts, and the ids of the copies among them."""
    stored = _loaders(records, _all(splits))
    trained = set(splits["train"])
    plan = plan_copies([row for row in records.index if row.source_id in trained], settings.count, settings.seed)
    made = [
        Entry(copy_id(name, number), AugmentedCopy(stored[name], number, settings.augmentation, settings.seed))
        for name, copies in plan.items()
        for number in range(1, copies + 1)
    ]
    return [*(Entry(name, load) for name, load in stored.items()), *made], [entry.source_id for entry in made]


def _regions(records: Records, splits: Splits, settings: ExpansionSettings) -> tuple[list[Entry], list[str]]:
    """Entries of all parts' regions, and the ids of the synthetic ones among them."""
    check_trainable(splits["train"], records, "training", needs="label")
    stored = _loaders(records, _all(splits))
    crops = {name: RegionCrop(load, settings.margin, settings.size) for name, load in stored.items()}
    trained = [sample for name in sorted(splits["train"]) if (sample := _loaded(crops[name])) is not None]
    channels = max((sample.image.shape[2] for sample in trained), default=1)
    shape = (settings.size, settings.size, channels)
    pixels = np.array([np.broadcast_to(sample.image, shape) for sample in trained])
    pixels, labels, synthetic = oversample(pixels, [sample.label for sample in trained], settings.seed)
    made = []
    for number, position in enumerate(np.flatnonzero(synthetic), start=1):
        name = f"synthetic-{number:04}"  # a patient of its own: it mixes several
        sample = Sample(name, pixels[position], None, labels[position], name, attributes=dict(_SYNTHETIC))
        made.append(Entry(name, _Made(sample)))
    return [*(Entry(name, load) for name, load in crops.items()), *made], [entry.source_id for entry in made]


_SYNTHETIC: dict[str, Any] = {"synthetic": True, "method": "borderline-smote-2"}


def _loaded(crop: RegionCrop) -> Sample | None:
    try:
        return crop()
    except DataError:
        return None  # refused with its reason when the records are written


def _all(splits: Splits) -> Iterable[str]:
    return (source_id for part in PARTS for source_id in splits[part])


@functools.cache
def _augmenter(settings: AugmentationSettings, seed: int) -> Augmenter:
    return Augmenter(settings, seed)
