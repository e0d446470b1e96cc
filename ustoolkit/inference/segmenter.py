"""One face for whatever can segment: a run folder, or a SavedModel that was exported from one."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, tee
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

from ustoolkit.data.example import pixel_digest
from ustoolkit.errors import RunError
from ustoolkit.files import read_json
from ustoolkit.inference.graph import SegmentationGraph
from ustoolkit.models.load import load_model
from ustoolkit.recipe.settings import InferenceSettings
from ustoolkit.run import Run


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


class RunSegmenter:
    """Segments with the best weights of a run; see `Segmenter`."""

    def __init__(self, run: Run) -> None:
        """Loads the model.

        Raises:
            RunError: the run classifies, has no weights, or its `tuned.json` is damaged.
        """
        if run.recipe.classifies:
            raise RunError(
                f"{run.folder}: expected a run that segments, found one that classifies. To classify images name it in "
                "'ustoolkit diagnose IMAGES --segmenter RUN --classifier RUN'."
            )
        self.classes = run.classes
        self.inference = run.inference
        self._run = run
        self._graph = SegmentationGraph(load_model(run), run.recipe, self.inference)

    def probabilities(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Segmenter.probabilities`; several images share one pass of the network."""
        images, kept = tee(images)
        for image, output in zip(kept, self.outputs(images), strict=True):
            yield self.restored(output, image.shape[:2])

    def outputs(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Probabilities at the network's own size, which is mostly smaller than the image's, to keep many of them.

        Args:
            images: uint8 (height, width, 1 or 3), of any sizes.
        Yields:
            float32 (*image_size, classes; 1 for two classes), what `restored` takes.
        """
        images = iter(images)
        while chunk := list(islice(images, self.inference.batch_size)):
            inputs = tf.concat([self._graph.prepare(image[np.newaxis]) for image in chunk], axis=0)
            yield from self._graph.network(inputs).numpy()

    def restored(self, output: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """One of `outputs` at the size of its image.

        Args:
            output: float32 (*image_size, classes; 1 for two classes).
            size: height and width of the image, pixels.
        Returns:
            float32 (height, width, classes; 1 for two classes).
        """
        return self._graph.restore(tf.constant(output[np.newaxis]), tf.constant(size))[0].numpy()

    @property
    def trained_on(self) -> set[str]:
        """SHA-256 of the pixels of every image that training or validation saw."""
        return self._run.trained_on

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """See `Segmenter.splits_of`."""
        return self._run.splits if records_digest == self._run.manifest["digest"] else None


class SavedModelSegmenter:
    """Segments with an exported SavedModel; see `Segmenter`."""

    def __init__(self, folder: Path) -> None:
        """Loads the model.

        Raises:
            RunError: the folder is no export of ours.
        """
        metadata = read_json(folder / "metadata.json", RunError, "Export the run again with 'ustoolkit export'.")
        if isinstance(metadata, dict) and metadata.get("task") == "diagnosis":
            raise RunError(
                f"{folder}: this export classifies too, and is called by apps as it is. To segment here, name the run, "
                "or export it without --segmenter."
            )
        try:
            self.classes = [str(name) for name in metadata["classes"]]
            self.inference = InferenceSettings(**metadata["inference"])
            self._model = tf.saved_model.load(str(folder))
            self._segment = self._model.signatures["serving_default"]
        except Exception as problem:  # a damaged file shows in many ways: OSError, KeyError, DecodeError, …
            raise RunError(
                f"{folder}: the exported model is damaged or not one of ours ({str(problem)[:200]}). "
                "Export the run again with 'ustoolkit export'."
            ) from None

    def probabilities(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Segmenter.probabilities`."""
        for image in images:
            yield self._segment(images=tf.constant(image[np.newaxis]))["probability"][0].numpy()

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """None: an export does not know who was in which part."""
        return None


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
        learned = [getattr(one, "trained_on", set()) for one in self.segmenters]
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
        models: run folders or exported SavedModels, at least one.
    Raises:
        RunError: one of them is neither, or they have other classes.
    """
    loaded = [load_segmenter(model) for model in models]
    return loaded[0] if len(loaded) == 1 else SegmenterEnsemble(loaded)


def load_segmenter(model: Path | str) -> Segmenter:
    """Loads a run folder or an exported SavedModel.

    Raises:
        RunError: it is neither, or incomplete.
    """
    model = Path(model)
    if (model / "saved_model.pb").is_file():
        return SavedModelSegmenter(model)
    if not model.is_dir() or not (model / "recipe.toml").is_file():
        raise RunError(
            f"{model}: expected a run folder or an exported SavedModel, found {_kind(model)}. "
            "Name what 'ustoolkit train --out' or 'ustoolkit export --out' made."
        )
    return RunSegmenter(Run(model))


def _kind(path: Path) -> str:
    if not path.exists():
        return "nothing"
    return "a folder without recipe.toml or saved_model.pb" if path.is_dir() else "a file"
