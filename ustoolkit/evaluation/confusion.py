"""Which class was taken for which, counted over the pixels of many images, and the scores of such a count."""

from typing import Any

import numpy as np

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.evaluation.overlap import check_shapes
from ustoolkit.recipe.data_set import IGNORE


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts the pixels of one image by annotated and by predicted class.

    The matrices of several images add up to that of all their pixels.

    >>> confusion_matrix(np.array([[0, 1, 1]], np.uint8), np.array([[0, 0, 1]], np.uint8), 2).tolist()
    [[1, 0], [1, 1]]

    Args:
        truth: uint8 (height, width), the annotated class index of each pixel, 0 background; 255 where it is not known.
        prediction: uint8 (height, width), the predicted class index.
        num_classes: how many there are, the background included, 1 to 255.
    Returns:
        int64 (num_classes, num_classes): a row for each annotated class, a column for each predicted one.
    Raises:
        ShapeError: truth and prediction differ in shape, or are not two-dimensional.
        DataError: a pixel holds an index that is no class, or the masks hold no integers.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    check_shapes(truth, prediction)
    counted = truth != IGNORE
    rows, columns = truth[counted], prediction[counted]
    for name, indices in (("truth", rows), ("prediction", columns)):
        if indices.dtype.kind not in "biu":
            raise DataError(f"the {name} holds {indices.dtype}; expected class indices. Turn it into a mask first.")
        if indices.size and not 0 <= indices.min() <= indices.max() < num_classes:
            raise DataError(
                f"the {name} holds class indices {indices.min()} to {indices.max()}; expected 0 to {num_classes - 1}. "
                "Evaluate with the classes that the masks were drawn with."
            )
    # scikit-learn's function sorts the labels and builds a sparse matrix: some twenty times slower on masks.
    pairs = rows.astype(np.intp) * num_classes + columns
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def agreement(matrix: np.ndarray) -> dict[str, Any]:
    """Scores of all counted pixels together, the background as a class like any other.

    Large lesions weigh more here than in a mean over images. As in Long et al., "Fully convolutional networks for
    semantic segmentation" (CVPR 2015), section 5, and Li et al., figure 11 (2021).

    Args:
        matrix: int (classes, classes) of `confusion_matrix`, or the sum of several.
    Returns:
        dict of iou (for each class the pixels that are of it in truth and prediction over those that are in either;
        NaN for a class in neither), mean_iou (over the classes that have one; NaN where none has) and pixel_accuracy
        (share of the pixels predicted as annotated; NaN without pixels), all in [0, 1].
    Raises:
        ShapeError: the matrix is not square.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(
            f"the confusion matrix has shape {matrix.shape}; expected (classes, classes). "
            "Give the sum of what confusion_matrix returns."
        )
    right = np.diag(matrix).astype(np.float64)
    either = matrix.sum(axis=0) + matrix.sum(axis=1) - right
    iou = np.divide(right, either, out=np.full(len(right), np.nan), where=either > 0)
    defined = iou[~np.isnan(iou)]
    pixels = int(matrix.sum())
    return {
        "iou": [float(value) for value in iou],
        "mean_iou": float(defined.mean()) if defined.size else float("nan"),
        "pixel_accuracy": float(right.sum() / pixels) if pixels else float("nan"),
    }


def format_agreement(scores: dict[str, Any]) -> str:
    """Sets the scores as Li et al. print them (figure 11), a line for each class by its index.

    Args:
        scores: what `agreement` returns, or the same read from JSON, with None for NaN.
    Returns:
        lines with four decimals; a dash stands for what is not defined.
    """
    lines = ["Intersection over Union for each class:"]
    lines += [f"  class {index}: {_four_decimals(value)}" for index, value in enumerate(scores["iou"])]
    lines.append(f"mean Intersection over Union: {_four_decimals(scores['mean_iou'])}")
    lines.append(f"Pixel Accuracy: {_four_decimals(scores['pixel_accuracy'])}")
    return "\n".join(lines)


def _four_decimals(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.4f}"
