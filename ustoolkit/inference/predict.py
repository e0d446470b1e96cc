"""Masks and overlays for files and folders of images."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path

from ustoolkit.data.image_files import encode_png, find_images
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.readers.entry import Entry, FileLoader
from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.data.split import part_of, read_splits
from ustoolkit.errors import DataError
from ustoolkit.files import safe_name, write_bytes
from ustoolkit.inference.overlay import draw_overlay
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.inference.segmenter import Segmenter
from ustoolkit.progress import progress
from ustoolkit.recipe import DataSetSettings


@dataclass
class Predictions:
    """What a prediction left behind.

    Attributes:
        written: the mask files.
        refused: why files could not be read.
    """

    written: list[Path] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def predict_paths(segmenter: Segmenter, paths: Iterable[Path], out: Path, part: str = "all") -> Predictions:
    """Segments images and writes `<name>_mask.png` and `<name>_overlay.png`, both at the image's own size.

    Masks are 0 and 255 for two classes, class indices for more. The overlay shows the prediction in green, and in red
    the truth where it is known.

    Args:
        segmenter: the model.
        paths: image files, folders of them (with masks or without), or records folders.
        out: the folder to write into; it is made.
        part: which part of a records folder, or 'all'.
    Returns:
        what was written and what could not be read.
    Raises:
        DataError: a path does not exist, a folder holds no image, or no image at all could be read.
        RecordsError: a records folder is damaged, or has no such part.
        OutputError: the folder cannot be written.
    """
    entries = [entry for path in paths for entry in _entries(path, segmenter.classes, part)]
    result = Predictions()
    names = _unique_names(entries)
    samples, kept = tee(_loaded(entries, names, result))
    probabilities = segmenter.probabilities(sample.image for _, sample in samples)
    for (name, sample), probability in progress(
        zip(kept, probabilities, strict=True), "predicting", total=len(entries)
    ):
        mask = to_mask(probability, segmenter.inference)
        path = out / f"{name}_mask.png"
        write_bytes(path, encode_png(mask * 255 if len(segmenter.classes) == 2 else mask))
        write_bytes(out / f"{name}_overlay.png", encode_png(draw_overlay(sample.image, mask, sample.mask)))
        result.written.append(path)
    if not result.written:
        raise DataError("no image could be read:\n  " + "\n  ".join(result.refused[:5]))
    return result


def _entries(path: Path, classes: list[str], part: str) -> list[Entry]:
    if path.is_file():
        return [_without_mask(path, path.stem, len(classes))]
    if not path.is_dir():
        raise DataError(f"{path}: expected an image or a folder of images, found nothing. Check the path.")
    if (path / "manifest.json").is_file():
        return _record_entries(Records(path), part)
    try:
        return open_data_set(path, DataSetSettings(classes=tuple(classes)))
    except DataError:  # a folder of images alone
        files = find_images(path)
        if not files:
            raise DataError(f"{path}: expected images (PNG, JPEG, BMP, TIFF), found none. Check the path.") from None
        return [_without_mask(file, file.stem, len(classes)) for file in files]


def _record_entries(records: Records, part: str) -> list[Entry]:
    """Entries that hand out the records in their order, so that each shard is read once."""
    splits = {} if part == "all" else read_splits(records.folder / "splits.json", records)
    wanted = part_of(splits, part)
    chosen = None if wanted is None else set(wanted)
    samples = records.read(chosen)
    return [
        Entry(row.source_id, lambda: next(samples))
        for row in records.index
        if chosen is None or row.source_id in chosen
    ]


def _without_mask(path: Path, name: str, num_classes: int) -> Entry:
    return Entry(name, FileLoader(name, path, (), num_classes))


def _unique_names(entries: list[Entry]) -> list[str]:
    """File names for results: the id, its folders joined, numbered where two would be the same."""
    names: list[str] = []
    taken: set[str] = set()
    for entry in entries:
        base = name = safe_name(entry.source_id)
        number = 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        names.append(name)
    return names


def _loaded(entries: list[Entry], names: list[str], result: Predictions) -> Iterator[tuple[str, Sample]]:
    for entry, name in zip(entries, names, strict=True):
        try:
            yield name, entry.load()
        except DataError as problem:
            result.refused.append(str(problem))
