"""One face for whatever can segment: a run, an export of one, a Keras file. No TensorFlow until one is loaded."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import tee
from pathlib import Path
from typing import Protocol

import numpy as np

from ustoolkit.data.example import pixel_digest
from ustoolkit.errors import RunError
from ustoolkit.recipe.settings import InferenceSettings


class Segmenter(Protocol):
    """Something that segments.

    Attributes:
        classes: names of the mask values 0, 1, …
        inference: the threshold and what is done to masks.
    """

    classes: list[str]
    inference: InferenceSettings

    def probabilities(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Segments images one after another, of any sizes, in memory that does not grow with their number.

        Args:
            images: uint8 (height, width, 1 or 3).
        Yields:
            float32 (height, width, classes; 1, the lesion's, for two classes), at each image's own size.
        """

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """Source ids by part, of the records that the model was trained on; None of any other, or if not known."""


class SegmenterEnsemble:
    """Averages the probabilities of several segmenters; see `Segmenter`.

    An image that some of them learned from is left to the others: trained on the folds of one data set, they find the
    lesions of all its images as if these were new. Where all learned from it, all are averaged.

    Args:
        segmenters: two or more, of the same classes.
    """

    def __init__(self, segmenters: Sequence[Segmenter]) -> None:
        self.segmenters = list(segmenters)
        self.classes, self.inference = segmenters[0].classes, segmenters[0].inference
        if any(one.classes != self.classes for one in segmenters):
            raise RunError("expected segmenters of the same classes, found others. Name runs of one data set.")

    @property
    def trained_on(self) -> set[str]:
        """SHA-256 of the pixels of every image that all of them learned from."""
        return set.intersection(*(getattr(one, "trained_on", set()) for one in self.segmenters))

    def probabilities(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Segmenter.probabilities`."""
        first, *others = tee(images, 1 + len(self.segmenters))
        found = [one.probabilities(each) for one, each in zip(self.segmenters, others, strict=True)]
        learned: list[set[str]] = [getattr(one, "trained_on", set()) for one in self.segmenters]
        for image, *probabilities in zip(first, *found, strict=True):
            digest = pixel_digest(image)
            new = [each for each, seen in zip(probabilities, learned, strict=True) if digest not in seen]
            yield np.mean(new or probabilities, axis=0)

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """None: each has its own."""
        return None


def load_segmenters(models: Sequence[Path | str]) -> Segmenter:
    """Loads one segmenter, or several as one.

    Args:
        models: what `load_segmenter` takes, at least one.
    Raises:
        RunError: one of them cannot be loaded, or they have other classes.
    """
    loaded = [load_segmenter(model) for model in models]
    return loaded[0] if len(loaded) == 1 else SegmenterEnsemble(loaded)


def load_segmenter(model: Path | str) -> Segmenter:
    """Loads whatever segments.

    Args:
        model: a run folder; an exported SavedModel, or the folder of its versions, of which the newest is taken; or a
            `.keras`, a `.tflite` or an `.onnx` file.
    Raises:
        RunError: it is none of these, incomplete, damaged, or would do more than arithmetic.
    """
    model = Path(model)
    if model.is_file() and model.suffix == ".tflite":
        from ustoolkit.inference.litert_segmenter import LiteRtSegmenter

        return LiteRtSegmenter(model)
    if model.is_file() and model.suffix == ".onnx":
        from ustoolkit.inference.onnx_segmenter import OnnxSegmenter

        return OnnxSegmenter(model)
    if model.is_file() and model.suffix == ".keras":
        from ustoolkit.inference.keras_segmenter import KerasSegmenter

        return KerasSegmenter(model)
    exported = newest_version(model)
    if exported is not None:
        from ustoolkit.inference.saved_model import SavedModelSegmenter

        return SavedModelSegmenter(exported)
    if not model.is_dir() or not (model / "recipe.toml").is_file():
        raise RunError(
            f"{model}: expected a run folder, an exported SavedModel, a .keras, .tflite or .onnx file, found "
            f"{_kind(model)}. Name what 'ustoolkit train --out' or 'ustoolkit export --out' made."
        )
    from ustoolkit.inference.run_segmenter import RunSegmenter
    from ustoolkit.run import Run

    return RunSegmenter(Run(model))


def newest_version(model: Path) -> Path | None:
    """The folder of a SavedModel: the one named, or of those in it that are called by a number the highest.

    Args:
        model: a folder, or anything else.
    Returns:
        None where there is none.
    """
    if (model / "saved_model.pb").is_file():
        return model
    if not model.is_dir():
        return None
    versions = [each for each in model.iterdir() if each.name.isascii() and each.name.isdigit()]
    saved = [each for each in versions if (each / "saved_model.pb").is_file()]
    return max(saved, key=lambda each: int(each.name), default=None)


def _kind(path: Path) -> str:
    if not path.exists():
        return "nothing"
    return "a folder without recipe.toml or saved_model.pb" if path.is_dir() else "another file"
