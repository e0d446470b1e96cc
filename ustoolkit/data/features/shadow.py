"""What lies behind the lesion: BI-RADS's posterior features, shadow and enhancement.

The band below the lesion is compared with the tissue left and right of it at the same depth, since sound weakens with
depth everywhere.
"""

import numpy as np

from ustoolkit.data.features.lesion import Lesion, Measurement

MEASUREMENTS: dict[str, Measurement] = {
    "shadow_near": Measurement(
        0.0, "grey at 0.05 to 0.4 sides below it less that beside, by the spread; below 0 shadow"
    ),
    "shadow_far": Measurement(0.0, "as before, at 0.4 to 1 sides below"),
    "shadow_brightness": Measurement(0.5, "chance that a pixel of the band below is brighter than one beside it"),
    "shadow_darkest_quarter": Measurement(0.0, "as shadow_near to 1 side, the quarter of its columns that is darkest"),
    "shadow_brightest_quarter": Measurement(0.0, "as before, the quarter that is brightest"),
    "shadow_enhancement_share": Measurement(0.0, "share of the columns that are brighter by half the spread"),
    "shadow_edges": Measurement(0.0, "grey below its left and right quarter less that below its middle, by the spread"),
    "shadow_to_lesion": Measurement(0.0, "grey of the band below less that inside, by the spread"),
    "shadow_to_above": Measurement(0.0, "grey of the band below less that of the tissue around, by the spread"),
    "shadow_evenness": Measurement(0.0, "logarithm of the spread in the band below by that beside it"),
}

_NEAR, _MIDDLE, _FAR = 0.05, 0.4, 1.0  # sides below the lesion
_LEAST = 0.1  # sides below its lowest point that must be seen


def shadow_features(lesion: Lesion) -> dict[str, float]:
    """Measures what `MEASUREMENTS` lists.

    Args:
        lesion: at the standard size.
    Returns:
        a value a name; what is undefined, as where the picture ends below the lesion, is not finite.
    """
    grey, spread = lesion.grey, lesion.spread
    height, width = grey.shape
    rows, columns = np.arange(height)[:, np.newaxis], np.arange(width)
    _, bottom, left, right = lesion.box
    lowest = np.where(lesion.inside.any(axis=0), height - np.argmax(lesion.inside[::-1], axis=0), bottom)
    below = (rows - lowest) / lesion.side  # sides, from each column's own edge
    part = (columns - left) / (right - left)
    seen = lesion.seen & ~lesion.inside
    deep = seen & (below > _NEAR) & (below < _FAR)
    band = deep & (part > 0.1) & (part < 0.9)
    apart = np.maximum(left - columns, columns - right) / lesion.side
    side_rows = (rows > lowest.min() + _NEAR * lesion.side) & (rows < bottom + _FAR * lesion.side)
    beside = seen & (apart > 0.1) & (apart < 0.7) & side_rows
    if not (band & (rows > bottom + _LEAST * lesion.side)).any() or not beside.any():
        return {}
    course = _course(grey, beside)
    relative = (grey - course[:, np.newaxis]) / spread
    known = band & np.isfinite(relative)
    near, far = known & (below < _MIDDLE), known & (below >= _MIDDLE)
    by_column = np.array([np.median(relative[known[:, c], c]) for c in np.flatnonzero(known.any(axis=0))])
    if not by_column.size:
        return {}
    outer = known & ((part < 0.3) | (part > 0.7))
    inner = known & (part > 0.35) & (part < 0.65)
    neighbours = np.sort(grey[beside])
    rank = np.searchsorted(neighbours, grey[band], "left") + np.searchsorted(neighbours, grey[band], "right")
    nearness, farness = _median(relative[near]), _median(relative[far])
    level = _median(grey[band])
    return {
        "shadow_near": nearness,
        "shadow_far": farness,
        "shadow_brightness": float(rank.mean()) / 2 / len(neighbours),
        "shadow_darkest_quarter": np.percentile(by_column, 12.5),
        "shadow_brightest_quarter": np.percentile(by_column, 87.5),
        "shadow_enhancement_share": np.mean(by_column > 0.5),
        "shadow_edges": _median(relative[outer]) - _median(relative[inner]),
        "shadow_to_lesion": (level - _median(grey[lesion.inside])) / spread,
        "shadow_to_above": (level - lesion.level) / spread,
        "shadow_evenness": np.log((_spread(grey[band]) + 0.5) / (_spread(grey[beside]) + 0.5)),
    }


def _course(grey: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """float64 (height,), the grey level of the tissue beside at each row, smoothed; NaN where there is none."""
    window = max(1, round(0.1 * beside.shape[0] / 2))
    course = np.full(len(grey), np.nan)
    for row in np.flatnonzero(beside.any(axis=1)):
        rows = slice(max(0, row - window), row + window + 1)
        course[row] = np.median(grey[rows][beside[rows]])
    return course


def _spread(values: np.ndarray) -> float:
    low, high = np.percentile(values, (16, 84))
    return float(high - low) / 2


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else float("nan")
