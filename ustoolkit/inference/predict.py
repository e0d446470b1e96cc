"""Masks, overlays and panels for files and folders of images."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path

import numpy as np

from ustoolkit.data.given_images import check_apart, given_images, loaded
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.files import new_folder, write_bytes, write_json
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
    check_apart(out, paths)
    images = given_images(paths, len(segmenter.classes), part, segmenter.splits_of)
    inference = with_crf(segmenter.inference, crf)
    result = Predictions()
    with new_folder(out, overwrite, owned_by="predictions.json") as folder:
        samples, samples_again, kept = tee(loaded(images, result.refused), 3)
        probabilities = with_and_without(
            segmenter.probabilities(sample.image for _, sample in samples),
            (sample.image for _, sample in samples_again),
            inference.crf,
            workers,
        )
        with closing(probabilities):
            pairs = zip(kept, probabilities, strict=True)
            for (image, sample), found in progress(pairs, "predicting", total=len(images)):
                name = image.name
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
