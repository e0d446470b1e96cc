"""The lesion's shape and place: BI-RADS's shape and orientation, without grey values.

Fine detail of the outline is left to `margin`, since it depends on who or what drew it.
"""

import cv2
import numpy as np

from ustoolkit.data.features.lesion import Lesion, Measurement

MEASUREMENTS: dict[str, Measurement] = {
    "shape_depth_to_width": Measurement(1.0, "height by width of the box around it; malignant lesions grow upright"),
    "shape_uprightness": Measurement(0.0, "difference of vertical and horizontal variance, by their sum; -1 flat"),
    "shape_elongation": Measurement(1.0, "short by long axis of the ellipse of its moments; 1 round"),
    "shape_roundness": Measurement(1.0, "4π area / perimeter², 1 for a disc"),
    "shape_solidity": Measurement(1.0, "area by that of its convex hull"),
    "shape_convexity": Measurement(1.0, "perimeter of its convex hull by its own"),
    "shape_rectangularity": Measurement(0.785, "area by that of the smallest rectangle around it, turned or not"),
    "shape_ellipse_misfit": Measurement(0.0, "area in which it differs from the ellipse of its moments, by its own"),
    "shape_concavity_depth": Measurement(0.0, "depth of the deepest dent, in sides"),
    "shape_concavities": Measurement(0.0, "sum of the depths of the dents that are no steps of pixels, in sides"),
    "shape_left_right_asymmetry": Measurement(0.0, "area that its mirror image leaves uncovered, by its own"),
    "shape_top_bottom_asymmetry": Measurement(0.0, "as before, turned upside down"),
    "shape_lower_to_upper_width": Measurement(0.0, "logarithm of the width of its lower by its upper third"),
    "shape_relative_width": Measurement(0.5, "fraction of the picture's width; depends on the zoom"),
    "shape_depth": Measurement(1.0, "depth of its top below the picture's, in sides, as a logarithm"),
    "shape_relative_depth": Measurement(0.5, "depth of its middle, fraction of the picture's height"),
}

_SHALLOW = 0.025  # sides


def shape_features(lesion: Lesion) -> dict[str, float]:
    """Measures what `MEASUREMENTS` lists.

    Args:
        lesion: at the standard size.
    Returns:
        a value a name; what is undefined is not finite.
    """
    top, bottom, left, right = lesion.box
    points = lesion.outline[:, ::-1].astype(np.float32)
    area, perimeter = np.float64(cv2.contourArea(points)), cv2.arcLength(points, True)
    hull = cv2.convexHull(points)
    hull_area, hull_perimeter = cv2.contourArea(hull), cv2.arcLength(hull, True)
    _, (length, breadth), _ = cv2.minAreaRect(points)
    rows, columns = np.nonzero(lesion.inside)
    (row_variance, covariance), (_, column_variance) = np.cov(rows, columns, bias=True) + np.eye(2) / 12
    total = row_variance + column_variance
    drawn_out = np.hypot(row_variance - column_variance, 2 * covariance) / total
    dents = _dents(lesion.outline)
    return {
        "shape_depth_to_width": (bottom - top) / (right - left),
        "shape_uprightness": (row_variance - column_variance) / total,
        "shape_elongation": np.sqrt((1 - drawn_out) / (1 + drawn_out)),
        "shape_roundness": 4 * np.pi * area / perimeter**2,
        "shape_solidity": area / hull_area,
        "shape_convexity": hull_perimeter / perimeter,
        "shape_rectangularity": area / (length * breadth),
        "shape_ellipse_misfit": _ellipse_misfit(lesion.inside),
        "shape_concavity_depth": dents.max() / lesion.side,
        "shape_concavities": dents[dents > _SHALLOW * lesion.side].sum() / lesion.side,
        "shape_left_right_asymmetry": _asymmetry(lesion.inside, axis=1),
        "shape_top_bottom_asymmetry": _asymmetry(lesion.inside, axis=0),
        "shape_lower_to_upper_width": _lower_to_upper(lesion.inside),
        "shape_relative_width": lesion.relative_width,
        "shape_depth": np.log1p(lesion.depth),
        "shape_relative_depth": lesion.relative_depth,
    }


def _dents(outline: np.ndarray) -> np.ndarray:
    """float64 (n,), pixels, the depth of the outline under each side of its convex hull."""
    corners = np.sort(cv2.convexHull(outline.astype(np.float32), returnPoints=False).ravel())
    depths = []
    for first, last in zip(corners, np.append(corners[1:], corners[0] + len(outline)), strict=True):
        part = outline[np.arange(first, last + 1) % len(outline)]
        down, right = part[-1] - part[0]
        away = np.abs((part[:, 1] - part[0, 1]) * down - (part[:, 0] - part[0, 0]) * right)
        depths.append(away.max() / max(np.hypot(down, right), 1e-9))
    return np.array(depths)


def _ellipse_misfit(inside: np.ndarray) -> float:
    places = np.argwhere(inside).astype(np.float64)
    centre, spread = places.mean(axis=0), np.cov(places.T, bias=True) + np.eye(2) / 12
    rows, columns = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float64)
    rows, columns = rows - centre[0], columns - centre[1]
    (a, b), (_, d) = np.linalg.inv(spread)
    ellipse = a * rows**2 + 2 * b * rows * columns + d * columns**2 <= 4
    return float(np.count_nonzero(ellipse ^ inside) / len(places))


def _asymmetry(inside: np.ndarray, axis: int) -> float:
    """Share of the pixels that are none after mirroring at the middle of the lesion along `axis`."""
    places = np.argwhere(inside)
    mirrored = places.copy()
    mirrored[:, axis] = np.rint(2 * places[:, axis].mean() - places[:, axis]).astype(int)
    fits = (mirrored[:, axis] >= 0) & (mirrored[:, axis] < inside.shape[axis])
    return 1 - float(np.count_nonzero(inside[tuple(mirrored[fits].T)]) / len(places))


def _lower_to_upper(inside: np.ndarray) -> float:
    widths = inside.sum(axis=1)
    widths = widths[widths > 0].astype(np.float64)
    third = max(1, len(widths) // 3)
    return float(np.log(widths[-third:].mean() / widths[:third].mean()))
