"""Masks, overlays and panels for files and folders of images."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import tee
from pathlib import Path

import numpy as np

from ustoolkit.data.image_files import encode_png
from ustoolkit.data.readers.entry import Entry, FileLoader
from ustoolkit.data.readers.pairing import pair_masks
from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.data.split import part_of
from ustoolkit.errors import DataError, OutputError, RecordsError
from ustoolkit.files import new_folder, safe_name, write_bytes, write_json
from ustoolkit.inference.crf import with_and_without, with_crf
from ustoolkit.inference.overlay import draw_overlay
from ustoolkit.inference.panel import draw_panel
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.inference.segmenter import Segmenter
from ustoolkit.progress import progress


@dataclass
class Predictions:
    """What a prediction left behind.

    Attributes:
        written: the mask files.
        without_crf: where the CRF was on, the mask files without it.
        panels: the pictures of image, mask and overlay side by side.
        refused: why files could not be read.
    """

    written: list[Path] = field(default_factory=list)
    without_crf: list[Path] = field(default_factory=list)
    panels: list[Path] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def predict_paths(
    segmenter: Segmenter,
    paths: Sequence[Path],
    out: Path,
    part: str = "all",
    overwrite: bool = False,
    crf: bool | None = None,
    workers: int = 0,
) -> Predictions:
    """Segments images and writes `<name>_mask.png` and pictures to look at, masks at the image's own size.

    Masks are 0 and 255 for two classes, class indices for more. `<name>_overlay.png` shows the prediction in green, and
    in red the truth where it is known; `<name>_panel.png` shows image, mask and overlay side by side. With the CRF
    `<name>_mask.png` is the mask with it, and `<name>_mask_without_crf.png` the one without. `predictions.json` lists
    what was written and says how. The folder appears when it is whole.

    Args:
        segmenter: the model.
        paths: image files, folders of them (with masks or without), or records folders.
        out: the folder to make.
        part: which part of the records that the model was trained on, or 'all'.
        overwrite: whether earlier predictions there may be replaced.
        crf: whether the CRF refines; None for what the model says.
        workers: processes of the CRF; 0 for one a core.
    Returns:
        what was written and what could not be read.
    Raises:
        DataError: a path does not exist, a folder holds no image, or no image at all could be read.
        RecordsError: a records folder is damaged, or the model knows no such part of it.
        RunError: a process of the CRF was ended by the system.
        OutputError: the folder is taken, lies within the images' own, or cannot be written.
    """
    _check_apart(out, paths)
    entries = [entry for path in paths for entry in _entries(path, segmenter, part)]
    inference = with_crf(segmenter.inference, crf)
    result = Predictions()
    names = _unique_names(entries)
    with new_folder(out, overwrite, owned_by="predictions.json") as folder:
        samples, samples_again, kept = tee(_loaded(entries, names, result), 3)
        probabilities = with_and_without(
            segmenter.probabilities(sample.image for _, sample in samples),
            (sample.image for _, sample in samples_again),
            inference.crf,
            workers,
        )
        with closing(probabilities):
            pairs = zip(kept, probabilities, strict=True)
            for (name, sample), found in progress(pairs, "predicting", total=len(entries)):
                masks = [to_mask(probability, inference) for probability in found if probability is not None]
                for file_name, content in _pictures(name, sample, masks, len(segmenter.classes)):
                    write_bytes(folder / file_name, encode_png(content))
                result.written.append(out / f"{name}_mask.png")
                result.panels.append(out / f"{name}_panel.png")
                result.without_crf += [out / f"{name}_mask_without_crf.png"] if inference.crf.enabled else []
        if not result.written:
            raise DataError("no image could be read:\n  " + "\n  ".join(result.refused[:5]))
        listed = {
            "classes": segmenter.classes,
            "inference": inference.model_dump(mode="json"),
            "masks": [path.name for path in result.written],
            "masks_without_crf": [path.name for path in result.without_crf],
            "panels": [path.name for path in result.panels],
            "refused": result.refused,
        }
        write_json(folder / "predictions.json", listed)
    return result


def _pictures(name: str, sample: Sample, masks: list[np.ndarray], num_classes: int) -> Iterator[tuple[str, np.ndarray]]:
    """File names and pixels of one image's results; the masks are the one without the CRF, and that with it if on."""
    mask, without = masks[-1], masks[0] if len(masks) > 1 else None
    shown = 255 if num_classes == 2 else 1
    yield f"{name}_mask.png", mask * shown
    if without is not None:
        yield f"{name}_mask_without_crf.png", without * shown
    yield f"{name}_overlay.png", draw_overlay(sample.image, mask, sample.mask)
    yield f"{name}_panel.png", draw_panel(sample.image, mask, without)


@dataclass(frozen=True)
class _ImageWithTruth:
    """Loads an image, with its masks where they can be read; the prediction does not need them."""

    loader: FileLoader

    def __call__(self) -> Sample:
        try:
            return self.loader()
        except DataError:
            return replace(self.loader, masks=())()


def _check_apart(out: Path, paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise OutputError(
                f"{out}: this is within {path}, and predictions there would be taken for images and masks of yours. "
                "Choose another --out."
            )


def _entries(path: Path, segmenter: Segmenter, part: str) -> list[Entry]:
    if (path / "manifest.json").is_file():
        return _record_entries(Records(path), segmenter, part)
    if part != "all":
        raise RecordsError(f"{path}: --split {part} is for records folders. Leave --split out.")
    if path.is_file():
        return [_entry(path, path.stem, (), segmenter)]
    if not path.is_dir():
        raise DataError(f"{path}: expected an image or a folder of images, found nothing. Check the path.")
    pairs, _ = pair_masks(path)
    if not pairs:
        raise DataError(f"{path}: expected images (PNG, JPEG, BMP, TIFF), found none. Check the path.")
    return [_entry(image, image.stem, masks, segmenter) for image, masks in pairs.items()]


def _record_entries(records: Records, segmenter: Segmenter, part: str) -> list[Entry]:
    """Entries that hand out the records in their order, so that each shard is read once."""
    splits = segmenter.splits_of(records.digest)
    if part != "all" and splits is None:
        raise RecordsError(
            f"{records.folder}: the model does not know which of these images it was trained on, so there is no "
            f"'{part}' part. Name the run that was trained on them, or leave out --split."
        )
    wanted = part_of(splits or {}, part)
    chosen = None if wanted is None else set(wanted)
    samples = records.read(chosen)
    return [
        Entry(row.source_id, lambda: next(samples))
        for row in records.index
        if chosen is None or row.source_id in chosen
    ]


def _entry(path: Path, name: str, masks: tuple[Path, ...], segmenter: Segmenter) -> Entry:
    return Entry(name, _ImageWithTruth(FileLoader(name, path, masks, len(segmenter.classes))))


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
