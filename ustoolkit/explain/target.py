"""What of a network's output is explained: a label of an image, or a class in a region of it.

Both are sums of logits, each counted once, turned round, or not at all. Which ones count is settled by the network's
own output for the image and then held fixed, so that an explanation follows one question however the image is changed.
"""

from dataclasses import dataclass

import numpy as np

from ustoolkit.errors import RunError, ShapeError


@dataclass(frozen=True)
class LabelTarget:
    """A label of a classifier's.

    Attributes:
        label: its index; None for the label that the network predicts for each image. Of a single logit label 1 is the
            positive one, and label 0 the same logit turned round.
    """

    label: int | None = None

    def weighting(self, logits: np.ndarray) -> np.ndarray:
        """How each logit counts.

        Args:
            logits: float (n, labels), or (n, 1) for two labels; they decide what a label of None is.
        Returns:
            float32, the same shape: 1 for the label, 0 for others; of a single logit 1, or -1 for label 0.
        Raises:
            RunError: the logits are not a classifier's, or have no such label.
        """
        if logits.ndim != 2:
            raise RunError(
                f"LabelTarget: expected a classifier's logits (n, labels), found the shape {logits.shape}. "
                "Explain a segmentation network by a RegionTarget."
            )
        if self.label is None:
            return _counted(_predicted(logits), logits.shape[-1])
        _check_index("LabelTarget, label", self.label, logits.shape[-1])
        return _counted(np.full(len(logits), self.label), logits.shape[-1])

    def score(self, logits: np.ndarray, decided_by: np.ndarray | None = None) -> np.ndarray:
        """The label's logit.

        Args:
            logits: float (n, labels).
            decided_by: the same shape, those that decide what a label of None is; None for the logits themselves.
        Returns:
            float32 (n,).
        Raises:
            RunError: as for `weighting`.
        """
        return _summed(logits, self.weighting(logits if decided_by is None else decided_by))


@dataclass(frozen=True, eq=False)
class RegionTarget:
    """A class in a region of the image, as a segmentation network sees it.

    The sum of the class' logits over the region's pixels, after Vinogradova et al., Towards Interpretable Semantic
    Segmentation via Gradient-weighted Class Activation Mapping, AAAI 2020.

    Attributes:
        class_index: which class. Of a single logit class 1 is the lesion, and class 0 the same logit turned round.
        mask: bool (n, height, width) at the network's size, the region in each image; None for where the network
            itself finds the class. An empty region is taken as the whole image.
    """

    class_index: int = 1
    mask: np.ndarray | None = None

    def weighting(self, logits: np.ndarray) -> np.ndarray:
        """How each logit counts.

        Args:
            logits: float (n, height, width, classes), or one channel for two classes; they decide on the region where
                there is no mask.
        Returns:
            float32, the same shape: 0 outside the region and for other classes, else 1, or -1 for class 0 of a single
            logit.
        Raises:
            RunError: the logits are not a segmentation network's, or have no such class.
            ShapeError: the mask has another shape.
        """
        region = self._region(logits)
        region |= ~region.any(axis=(1, 2), keepdims=True)
        counted = _counted(np.full(region.shape, self.class_index), logits.shape[-1])
        return counted * region[..., np.newaxis]

    def score(self, logits: np.ndarray, decided_by: np.ndarray | None = None) -> np.ndarray:
        """The sum of the class' logits over the region.

        Args:
            logits: float (n, height, width, classes).
            decided_by: the same shape, those that decide on the region where there is no mask; None for the logits
                themselves.
        Returns:
            float32 (n,).
        Raises:
            RunError, ShapeError: as for `weighting`.
        """
        return _summed(logits, self.weighting(logits if decided_by is None else decided_by))

    def found(self, logits: np.ndarray) -> np.ndarray:
        """In which images there is a region; in the others the whole image is taken.

        Args:
            logits: float (n, height, width, classes).
        Returns:
            bool (n,).
        Raises:
            RunError, ShapeError: as for `weighting`.
        """
        return np.any(self._region(logits), axis=(1, 2))

    def _region(self, logits: np.ndarray) -> np.ndarray:
        """Bool (n, height, width), empty where the class is not found."""
        if logits.ndim != 4:
            raise RunError(
                "RegionTarget: expected a segmentation network's logits (n, height, width, classes), found the shape "
                f"{logits.shape}. Explain a classifier by a LabelTarget."
            )
        _check_index("RegionTarget, class_index", self.class_index, logits.shape[-1])
        if self.mask is None:
            return _predicted(logits) == self.class_index
        if self.mask.shape != logits.shape[:-1]:
            raise ShapeError(
                f"RegionTarget, mask: expected the shape {logits.shape[:-1]} of the network's output, found "
                f"{self.mask.shape}. Resize the masks to the network's size, one an image."
            )
        return self.mask.astype(bool)


Target = LabelTarget | RegionTarget  # what can be explained by one number an image


def _predicted(logits: np.ndarray) -> np.ndarray:
    """Indices of the likeliest classes; of a single logit 1 from a probability of one half on."""
    return (logits[..., 0] >= 0).astype(int) if logits.shape[-1] == 1 else logits.argmax(-1)


def _counted(indices: np.ndarray, channels: int) -> np.ndarray:
    """The weighting by which the classes of some indices count: float32 (…, channels)."""
    if channels == 1:
        return np.where(indices == 1, 1.0, -1.0).astype(np.float32)[..., np.newaxis]
    return np.eye(channels, dtype=np.float32)[indices]


def _summed(logits: np.ndarray, weighting: np.ndarray) -> np.ndarray:
    terms = logits.astype(np.float64) * weighting
    return terms.reshape(len(terms), -1).sum(axis=1).astype(np.float32)


def _check_index(place: str, index: int, channels: int) -> None:
    classes = max(2, channels)
    if not 0 <= index < classes:
        raise RunError(f"{place}: the network tells {classes} apart, expected 0 to {classes - 1}, found {index}.")
