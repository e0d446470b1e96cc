"""Segmentation by networks in memory: any graph, or the trained weights of a run."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, tee

import numpy as np
import tensorflow as tf

from ustoolkit.inference.graph import SegmentationGraph, segmentation_graph
from ustoolkit.run import Run


class GraphSegmenter:
    """Segments with a graph; see `ustoolkit.inference.segmenter.Segmenter`.

    Args:
        graph: of one or several networks.
        classes: names of the mask values 0, 1, …
    """

    def __init__(self, graph: SegmentationGraph, classes: Sequence[str]) -> None:
        self._graph, self.classes, self.inference = graph, list(classes), graph.inference

    def probabilities(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Segmenter.probabilities`; several images share one pass of the network."""
        images, kept = tee(images)
        for image, output in zip(kept, self.outputs(images), strict=True):
            yield self.restored(output, image.shape[:2])

    def outputs(self, images: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
        """Probabilities at the networks' own size, which is mostly smaller than the image's, to keep many of them.

        Args:
            images: uint8 (height, width, 1 or 3), of any sizes.
        Yields:
            what `restored` takes: for each size of input float32 (*image_size, classes; 1 for two classes).
        """
        images = iter(images)
        while chunk := list(islice(images, self.inference.batch_size)):
            prepared = zip(*(self._graph.prepare(image[np.newaxis]) for image in chunk), strict=True)
            found = self._graph.network(tuple(tf.concat(each, axis=0) for each in prepared))
            yield from zip(*(output.numpy() for output in found), strict=True)

    def restored(self, output: tuple[np.ndarray, ...], size: tuple[int, int]) -> np.ndarray:
        """One of `outputs` at the size of its image.

        Args:
            output: of one image.
            size: height and width of the image, pixels.
        Returns:
            float32 (height, width, classes; 1 for two classes).
        """
        batched = tuple(tf.constant(each[np.newaxis]) for each in output)
        return self._graph.restore(batched, tf.constant(size))[0].numpy()

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """None: a graph does not know who was in which part."""
        return None


class RunSegmenter(GraphSegmenter):
    """Segments with the best weights of a run; see `ustoolkit.inference.segmenter.Segmenter`."""

    def __init__(self, run: Run) -> None:
        """Loads the model.

        Raises:
            RunError: the run classifies, has no weights, or its `tuned.json` is damaged.
        """
        super().__init__(segmentation_graph([run]), run.classes)
        self._run = run

    @property
    def trained_on(self) -> set[str]:
        """SHA-256 of the pixels of every image that training or validation saw."""
        return self._run.trained_on

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """See `Segmenter.splits_of`."""
        return self._run.splits if records_digest == self._run.manifest["digest"] else None
