"""Measurements of a lesion by its outline and grey values, for classifiers that need no network.

They follow what radiologists describe (BI-RADS): shape, margin, echo pattern, what lies behind, and texture. A family
is a file with `MEASUREMENTS`, its names with their meanings, and a function of the same lesion.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from ustoolkit.data.features.contrast import MEASUREMENTS as _CONTRAST
from ustoolkit.data.features.contrast import contrast_features
from ustoolkit.data.features.lesion import Lesion, Measurement, view_lesion
from ustoolkit.data.features.margin import MEASUREMENTS as _MARGIN
from ustoolkit.data.features.margin import margin_features
from ustoolkit.data.features.shadow import MEASUREMENTS as _SHADOW
from ustoolkit.data.features.shadow import shadow_features
from ustoolkit.data.features.shape import MEASUREMENTS as _SHAPE
from ustoolkit.data.features.shape import shape_features
from ustoolkit.data.features.texture import MEASUREMENTS as _TEXTURE
from ustoolkit.data.features.texture import texture_features
from ustoolkit.errors import DataError

__all__ = ["FEATURES", "MEASUREMENTS", "Lesion", "Measurement", "feature_names", "lesion_features"]

FEATURES: dict[str, Callable[[Lesion], dict[str, float]]] = {
    "shape": shape_features,
    "margin": margin_features,
    "contrast": contrast_features,
    "shadow": shadow_features,
    "texture": texture_features,
}
"""What measures a lesion, by family."""
MEASUREMENTS: dict[str, dict[str, Measurement]] = {
    "shape": _SHAPE,
    "margin": _MARGIN,
    "contrast": _CONTRAST,
    "shadow": _SHADOW,
    "texture": _TEXTURE,
}
"""What each measurement means, and its neutral value, by family and name."""


def feature_names(families: Sequence[str] = tuple(FEATURES)) -> tuple[str, ...]:
    """Names of the measurements, in the order of `lesion_features`.

    Args:
        families: of `FEATURES`.
    Raises:
        DataError: there is no such family.
    """
    _check(families)
    return tuple(name for family in FEATURES if family in families for name in MEASUREMENTS[family])


def lesion_features(image: np.ndarray, mask: np.ndarray, families: Sequence[str] = tuple(FEATURES)) -> dict[str, float]:
    """Measures the largest lesion of a mask.

    Args:
        image: uint8 (height, width, 1 or 3).
        mask: bool or uint8 (height, width), of any size that is not 0; what is not 0 is lesion.
        families: of `FEATURES`; their order does not matter.
    Returns:
        a finite float for each of `feature_names(families)`, in that order. What is undefined, such as a shadow where
        the picture ends below the lesion, has its neutral value; see `MEASUREMENTS`.
    Raises:
        DataError: the mask is empty or does not fit the image, or there is no such family.
    """
    _check(families)
    lesion = view_lesion(image, mask)
    features = {}
    for family, measure in FEATURES.items():
        if family not in families:
            continue
        with np.errstate(all="ignore"), warnings.catch_warnings():  # what is undefined gets its neutral value below
            warnings.simplefilter("ignore", RuntimeWarning)
            found = measure(lesion)
        for name, measurement in MEASUREMENTS[family].items():
            value = float(found.get(name, np.nan))
            features[name] = value if np.isfinite(value) else measurement.neutral
    return features


def _check(families: Sequence[str]) -> None:
    unknown = [family for family in families if family not in FEATURES]
    if unknown or not families:
        found = f"'{unknown[0]}'" if unknown else "none"
        raise DataError(f"families of measurements: expected some of {', '.join(FEATURES)}, found {found}. Choose one.")
