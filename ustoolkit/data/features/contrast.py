"""The lesion's echo pattern: how dark and how even it is inside, beside the tissue around it.

Chances, `contrast_dark_tail` and `contrast_black_share` hardly change with the scanner's brightness, gain and grey map,
and what is divided by the spread around not with brightness and gain. `contrast_ratio` and `contrast_variation` are the
exceptions: they change with brightness.
"""

import numpy as np

from ustoolkit.data.features.lesion import Lesion, Measurement

MEASUREMENTS: dict[str, Measurement] = {
    "contrast_darkness": Measurement(0.5, "chance that a pixel around is brighter than one inside"),
    "contrast_darkness_beside": Measurement(0.5, "as before, with tissue at its height, left and right, alone"),
    "contrast_difference": Measurement(0.0, "median inside less that around, by the spread around"),
    "contrast_ratio": Measurement(0.0, "logarithm of the median inside by that around"),
    "contrast_dark_tail": Measurement(0.1, "share of the tissue around that is darker than its 10th percentile"),
    "contrast_black_share": Measurement(0.05, "share inside that is darker than the 5th percentile around"),
    "contrast_spread": Measurement(0.0, "logarithm of the spread inside by that around"),
    "contrast_variation": Measurement(0.0, "spread inside by its median: the speckle's"),
    "contrast_skewness": Measurement(0.0, "of the 10th, 50th and 90th percentile inside, -1 to 1"),
    "contrast_bright_spots": Measurement(0.0, "share inside that stands out brightly, at 0.03 sides"),
    "contrast_rim_to_centre": Measurement(0.0, "median of the outer part inside less that of the core, by the spread"),
    "contrast_lower_to_upper": Measurement(0.0, "median of the lower half less that of the upper, by the spread"),
    "contrast_patchiness": Measurement(0.0, "spread of the grey inside smoothed by 0.1 sides, by the spread around"),
    "contrast_above_to_beside": Measurement(0.0, "median above it less that beside it, by the spread"),
}

_DARK, _STEP = 4, 0.5  # grey levels, added where black or even parts would make a ratio run away


def contrast_features(lesion: Lesion) -> dict[str, float]:
    """Measures what `MEASUREMENTS` lists.

    Args:
        lesion: at the standard size.
    Returns:
        a value a name; what is undefined is not finite.
    """
    core = lesion.inside & (lesion.distance < -0.04) & lesion.seen
    core = core if core.any() else lesion.inside
    top, bottom, left, right = lesion.box
    rows, columns = np.ogrid[: lesion.grey.shape[0], : lesion.grey.shape[1]]
    beside = lesion.around & (rows > top) & (rows < bottom)
    above = lesion.around & (rows < (top + bottom) / 2) & (columns > left) & (columns < right)
    values, around = lesion.grey[core], np.sort(lesion.grey[lesion.around])
    if not around.size:
        return {}
    p10, p16, p50, p84, p90 = np.percentile(values, (10, 16, 50, 84, 90))
    return {
        "contrast_darkness": _brighter(values, around),
        "contrast_darkness_beside": _brighter(values, np.sort(lesion.grey[beside])),
        "contrast_difference": (p50 - lesion.level) / lesion.spread,
        "contrast_ratio": np.log((p50 + _DARK) / (lesion.level + _DARK)),
        "contrast_dark_tail": 1 - _brighter(np.array([p10]), around),
        "contrast_black_share": np.mean(values < np.percentile(around, 5)),
        "contrast_spread": np.log(((p84 - p16) / 2 + _STEP) / (lesion.spread + _STEP)),
        "contrast_variation": (p84 - p16) / 2 / (p50 + _DARK),
        "contrast_skewness": (p90 + p10 - 2 * p50) / (p90 - p10),
        **_parts(lesion, core),
        "contrast_above_to_beside": (_median(lesion.grey[above]) - _median(lesion.grey[beside])) / lesion.spread,
    }


def _parts(lesion: Lesion, core: np.ndarray) -> dict[str, float]:
    """How the grey differs from place to place inside."""
    grey, spread = lesion.grey, lesion.spread
    fine, middle, coarse = (lesion.smoothed(sigma) for sigma in (0.012, 0.05, 0.1))
    inner = core & (lesion.distance < -0.1)
    inner = inner if inner.any() else core
    stands_out = (fine - middle)[inner] / spread
    # Many pixels are equally deep; less a little, the last bit of the median decides of none.
    centre = lesion.distance < np.percentile(lesion.distance[lesion.inside], 50) - 1e-6
    rows = np.arange(grey.shape[0])[:, np.newaxis]
    row = np.nonzero(core)[0].mean()
    lower = core & (rows > row)
    low, high = np.percentile(coarse[core], (16, 84))
    return {
        "contrast_bright_spots": np.mean(stands_out > 1),
        "contrast_rim_to_centre": (_median(grey[core & ~centre]) - _median(grey[core & centre])) / spread,
        "contrast_lower_to_upper": (_median(grey[lower]) - _median(grey[core & ~lower])) / spread,
        "contrast_patchiness": (high - low) / 2 / spread,
    }


def _brighter(values: np.ndarray, around: np.ndarray) -> float:
    """Chance that one of `around` (sorted) is brighter than one of `values`, ties half; NaN where there is none."""
    if not around.size:
        return float("nan")
    rank = np.searchsorted(around, values, "left") + np.searchsorted(around, values, "right")
    return 1 - float(rank.mean()) / 2 / len(around)


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else float("nan")
