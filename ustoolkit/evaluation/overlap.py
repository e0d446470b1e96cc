"""How far two masks cover each other, counted in pixels.

Every function takes the annotated mask first and counts true and false positives and negatives (TP, FP, FN,
TN) over the whole image. Where the denominator is zero the metric is undefined and NaN is returned, so that
an average can leave the image out and say so. Definitions as in Taha and Hanbury, "Metrics for evaluating 3D
medical image segmentation", BMC Medical Imaging 15:29 (2015).
"""

import numpy as np

from ustoolkit.errors import ShapeError


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Overlap of two masks, twice the intersection over the sum of areas: 2 TP / (2 TP + FP + FN).

    >>> dice(np.array([[True, True]]), np.array([[True, False]])).__round__(3)
    0.667

    Args:
        truth: bool (height, width), the annotated lesion.
        prediction: bool (height, width), the predicted lesion.
    Returns:
        float in [0, 1]; NaN where both masks are empty.
    Raises:
        ShapeError: the masks differ in shape, or are not two-dimensional.
    """
    truth, prediction = mask_pair(truth, prediction)
    shared = np.count_nonzero(truth & prediction)
    return _ratio(2 * shared, np.count_nonzero(truth) + np.count_nonzero(prediction))


def iou(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Intersection over union of two masks, the Jaccard index: TP / (TP + FP + FN).

    Args:
        truth: bool (height, width), the annotated lesion.
        prediction: bool (height, width), the predicted lesion.
    Returns:
        float in [0, 1], equal to dice / (2 - dice); NaN where both masks are empty.
    Raises:
        ShapeError: the masks differ in shape, or are not two-dimensional.
    """
    truth, prediction = mask_pair(truth, prediction)
    return _ratio(np.count_nonzero(truth & prediction), np.count_nonzero(truth | prediction))


def pixel_accuracy(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Share of all pixels, background included, on which two masks agree: (TP + TN) / (TP + FP + FN + TN).

    It is high for small lesions whatever is predicted; read it beside `dice`.

    Args:
        truth: bool (height, width), the annotated lesion.
        prediction: bool (height, width), the predicted lesion.
    Returns:
        float in [0, 1]; NaN where the image has no pixels.
    Raises:
        ShapeError: the masks differ in shape, or are not two-dimensional.
    """
    truth, prediction = mask_pair(truth, prediction)
    return _ratio(np.count_nonzero(truth == prediction), truth.size)


def pixel_error(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Share of all pixels, background included, that were falsely predicted: (FP + FN) / (TP + FP + FN + TN).

    It is 1 − `pixel_accuracy`, and low for small lesions whatever is predicted.

    Args:
        truth: bool (height, width), the annotated lesion.
        prediction: bool (height, width), the predicted lesion.
    Returns:
        float in [0, 1], 0 where the masks are equal; NaN where the image has no pixels.
    Raises:
        ShapeError: the masks differ in shape, or are not two-dimensional.
    """
    truth, prediction = mask_pair(truth, prediction)
    return _ratio(np.count_nonzero(truth != prediction), truth.size)


def adjusted_rand(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Agreement of two divisions of the pixels into lesion and background, corrected for chance.

    Of all pairs of pixels it counts those that both masks put together or both put apart, less what two random
    divisions of the same sizes would agree on: Hubert and Arabie, "Comparing partitions" (Journal of Classification,
    1985). It does not know which of the two divisions is the lesion, so that a mask and its complement score 1.

    Args:
        truth: bool (height, width), the annotated lesion.
        prediction: bool (height, width), the predicted lesion.
    Returns:
        float in [-0.5, 1]: 1 where the divisions are the same, also where both masks are empty or full; about 0 by
        chance; 0 where one mask alone is empty or full. NaN where the image has no pixels.
    Raises:
        ShapeError: the masks differ in shape, or are not two-dimensional.
    """
    truth, prediction = mask_pair(truth, prediction)
    # Python's integers, since products of numbers of pairs are more than 64 bits hold.
    pixels, lesion, predicted = truth.size, int(np.count_nonzero(truth)), int(np.count_nonzero(prediction))
    if not pixels:
        return float("nan")
    shared = int(np.count_nonzero(truth & prediction))
    cells = (shared, lesion - shared, predicted - shared, pixels - lesion - predicted + shared)
    together = sum(cell * cell for cell in cells) - pixels
    truth_alone = lesion**2 + (pixels - lesion) ** 2 - pixels - together
    predicted_alone = predicted**2 + (pixels - predicted) ** 2 - pixels - together
    if not truth_alone and not predicted_alone:
        return 1.0
    apart = pixels * (pixels - 1) - together - truth_alone - predicted_alone
    above_chance = 2 * (together * apart - truth_alone * predicted_alone)
    most = (together + truth_alone) * (truth_alone + apart) + (together + predicted_alone) * (predicted_alone + apart)
    return above_chance / most


def sensitivity(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Share of the annotated lesion that was predicted, the recall of lesion pixels: TP / (TP + FN).

    Args:
        truth: bool (height, width), the annotated lesion.
        prediction: bool (height, width), the predicted lesion.
    Returns:
        float in [0, 1]; NaN where the truth is empty.
    Raises:
        ShapeError: the masks differ in shape, or are not two-dimensional.
    """
    truth, prediction = mask_pair(truth, prediction)
    return _ratio(np.count_nonzero(truth & prediction), np.count_nonzero(truth))


def specificity(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Share of the annotated background that was left as background: TN / (TN + FP).

    Args:
        truth: bool (height, width), the annotated lesion.
        prediction: bool (height, width), the predicted lesion.
    Returns:
        float in [0, 1]; NaN where the truth fills the image.
    Raises:
        ShapeError: the masks differ in shape, or are not two-dimensional.
    """
    truth, prediction = mask_pair(truth, prediction)
    return _ratio(np.count_nonzero(~truth & ~prediction), np.count_nonzero(~truth))


def mask_pair(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both masks as bool arrays after checking that they can be compared.

    Args:
        truth: bool (height, width); of an integer mask every non-zero pixel counts as lesion.
        prediction: the same.
    Raises:
        ShapeError: the masks differ in shape, or are not two-dimensional.
        TypeError: a mask holds real numbers, such as probabilities, of which nearly all are non-zero.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    check_shapes(truth, prediction)
    for name, mask in (("truth", truth), ("prediction", prediction)):
        if mask.dtype.kind not in "biu":
            raise TypeError(f"{name}: expected a bool mask, found {mask.dtype}. Threshold it first.")
    return truth.astype(bool, copy=False), prediction.astype(bool, copy=False)


def check_shapes(truth: np.ndarray, prediction: np.ndarray) -> None:
    """Raises ShapeError unless both are two-dimensional and of the same shape."""
    if truth.shape != prediction.shape:
        raise ShapeError(
            f"the truth has shape {truth.shape}, the prediction {prediction.shape}; expected the same "
            "(height, width). Resize the prediction to the size of the annotation, with nearest neighbours."
        )
    if truth.ndim != 2:
        raise ShapeError(
            f"the truth and the prediction have shape {truth.shape}; expected (height, width). "
            "Give one image and one class at a time, without batch or channel axes."
        )


def _ratio(numerator: int | np.integer, denominator: int | np.integer) -> float:
    return float(numerator / denominator) if denominator else float("nan")
