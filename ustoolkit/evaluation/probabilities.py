"""What scores of a diagnosis are checked for before anything is computed from them."""

import numpy as np

from ustoolkit.errors import DataError, ShapeError

SMALLEST_PROBABILITY = 1e-12  # nearer to 0 or 1 a logarithm would be infinite
_SUM_TOLERANCE = 1e-3  # rows that passed through half precision add up to 1 only about so well


def checked_scores(truth: np.ndarray, scores: np.ndarray, what: str = "scores") -> tuple[np.ndarray, np.ndarray]:
    """Two classes and a score each, of any range.

    Args:
        truth: bool (n,) or 0 and 1, whether each image is positive.
        scores: float (n,), higher where an image is more likely positive.
        what: the scores' name in messages.
    Returns:
        bool (n,) and float64 (n,).
    Raises:
        ShapeError: not one score for each image.
        DataError: a score is not finite, or the truth is neither 0 nor 1.
    """
    truth, scores = np.asarray(truth), _numbers(scores, what)
    if truth.ndim != 1 or scores.shape != truth.shape:
        raise ShapeError(
            f"the truth has shape {truth.shape}, the {what} {scores.shape}; expected (n,) for both. "
            "Give the positive label's score of each image."
        )
    if truth.dtype != bool and not np.isin(truth, (0, 1)).all():
        raise DataError(
            "the truth holds something else than 0 and 1; expected whether each image is positive. "
            "Compare the label indices with the positive one first."
        )
    _check_finite(scores, what)
    return truth.astype(bool), scores


def checked_probability(truth: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two classes and the positive one's probability; as `checked_scores`, and between 0 and 1.

    Args:
        truth: bool (n,) or 0 and 1, whether each image is positive.
        probability: float (n,), in [0, 1], of the positive label.
    Returns:
        bool (n,) and float64 (n,).
    Raises:
        ShapeError: not one probability for each image.
        DataError: a probability is not finite or not between 0 and 1, or the truth is neither 0 nor 1.
    """
    truth, probability = checked_scores(truth, probability, "probabilities")
    _check_range(probability, "probabilities")
    return truth, probability


def checked_rows(probability: np.ndarray, what: str = "probabilities") -> np.ndarray:
    """Probabilities of all labels, as float64 (n, labels).

    Args:
        probability: float (n, labels), two labels or more, each row adding up to 1.
        what: their name in messages.
    Returns:
        float64 (n, labels), as they were given.
    Raises:
        ShapeError: not two dimensions, or fewer than two labels.
        DataError: a probability is not finite or not between 0 and 1, or a row does not add up to 1.
    """
    rows = _numbers(probability, what)
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise ShapeError(
            f"the {what} have shape {rows.shape}; expected (n, labels) with two labels or more. "
            "Give a column for each label, the positive one last."
        )
    _check_finite(rows, what)
    _check_range(rows, what)
    sums = rows.sum(axis=1)
    if len(sums) and np.abs(sums - 1).max() > _SUM_TOLERANCE:
        found = sums[np.abs(sums - 1).argmax()]
        raise DataError(
            f"the {what} of one image add up to {found:.4g}; expected 1. Give probabilities, not logits or scores."
        )
    return rows


def checked_labels(truth: np.ndarray, images: int, labels: int) -> np.ndarray:
    """Label indices, as int64 (n,).

    Args:
        truth: int (n,), the index of each image's label.
        images: how many there should be.
        labels: how many labels there are.
    Returns:
        int64 (n,), as they were given.
    Raises:
        ShapeError: not one label for each image.
        DataError: something else than an index from 0 to labels − 1.
    """
    truth = np.asarray(truth)
    if truth.shape != (images,):
        raise ShapeError(
            f"the truth has shape {truth.shape}; expected ({images},), a label index for each image. "
            "Give truth and probabilities of the same images."
        )
    if truth.size and (truth.dtype.kind not in "biu" or not 0 <= truth.min() <= truth.max() < labels):
        raise DataError(
            f"the truth holds {truth.dtype} from {truth.min()} to {truth.max()}; expected label indices from 0 to "
            f"{labels - 1}. Give the index of each image's label, in the order of the probabilities' columns."
        )
    return truth.astype(np.int64)


def group_members(groups: np.ndarray | None, images: int) -> tuple[np.ndarray, int]:
    """The number of each image's patient, and how many patients there are.

    Args:
        groups: (n,) str, the patient of each image, or None where every image stands for itself.
        images: how many there should be.
    Returns:
        int (n,) from 0 to patients − 1, and the number of patients.
    Raises:
        ShapeError: not one group for each image.
    """
    if groups is None:
        return np.arange(images), images
    groups = np.asarray(groups)
    if groups.shape != (images,):
        raise ShapeError(
            f"the groups have shape {groups.shape}; expected ({images},). "
            "Give the patient of each image, or leave the groups out."
        )
    names, members = np.unique(groups, return_inverse=True)
    return members, len(names)


def log_odds(probability: np.ndarray) -> np.ndarray:
    """log p / (1 − p), finite also at 0 and 1, which count as 1e-12 away from there."""
    kept = np.clip(probability, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return np.log(kept) - np.log1p(-kept)


def _numbers(values: np.ndarray, what: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"the {what} are not all numbers; expected an array of floats. Check its source.") from None


def _check_finite(values: np.ndarray, what: str) -> None:
    missing = int(np.count_nonzero(~np.isfinite(values)))
    if missing:
        raise DataError(
            f"{missing} of {values.size} {what} are not finite; expected numbers. "
            "Leave out the images that have none, or predict them again."
        )


def _check_range(values: np.ndarray, what: str) -> None:
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise DataError(
            f"the {what} run from {values.min():.4g} to {values.max():.4g}; expected 0 to 1. "
            "Turn logits into probabilities first."
        )
