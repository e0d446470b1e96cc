"""Texture inside the lesion and around it, at scales that go with the lesion's size.

Differences and correlations of pixel pairs as in Haralick et al. (Textural Features for Image Classification, 1973),
local binary patterns (Ojala et al., Multiresolution Gray-Scale and Rotation Invariant Texture Classification, 2002),
and bands of detail. Along and across the beam are kept apart, since ultrasound's speckle is wider than it is deep. All
grey values are divided by their spread around, so that brightness and gain do not count.
"""

import numpy as np

from ustoolkit.data.features.lesion import Lesion, Measurement

_AXES = {"across": (0, 1), "along": (1, 0)}  # the beam, which runs downwards: rows and columns between two pixels
_DISTANCES = {"fine": 0.0375, "coarse": 0.125}  # sides between two pixels
_BANDS = {"fine": (0.01, 0.02), "middle": (0.03, 0.06), "coarse": (0.09, 0.18)}  # sides: standard deviations
_FAINT = 0.01  # spreads, added where even parts would make a ratio run away
_MANY_RUNS = 9  # the number of a local binary pattern whose brighter neighbours are in several runs

MEASUREMENTS: dict[str, Measurement] = {
    **{
        f"texture_{axis}_{scale}": Measurement(
            0.0, f"correlation of the grey inside at {distance} sides {axis} the beam"
        )
        for scale, distance in _DISTANCES.items()
        for axis in _AXES
    },
    **{
        f"texture_difference_{scale}": Measurement(
            0.0, f"logarithm of the mean squared difference of grey at {distance} sides, inside by around"
        )
        for scale, distance in _DISTANCES.items()
    },
    **{
        f"texture_detail_{band}": Measurement(0.0, f"logarithm of the {band} detail inside by that around")
        for band in _BANDS
    },
    **{
        f"texture_rim_detail_{band}": Measurement(0.0, f"logarithm of the {band} detail at the outline by that around")
        for band in _BANDS
    },
    "texture_detail_slope": Measurement(0.0, "logarithm of the fine by the coarse detail inside"),
    "texture_around_slope": Measurement(0.0, "logarithm of the fine by the coarse detail around"),
    "texture_layers": Measurement(0.0, "horizontal layers around: vertical less horizontal change, by their sum"),
    "texture_layers_inside": Measurement(0.0, "as before, inside"),
    "texture_patterns_entropy": Measurement(1.0, "entropy of the local binary patterns inside, 0 to 1"),
}


def texture_features(lesion: Lesion) -> dict[str, float]:
    """Measures what `MEASUREMENTS` lists.

    Args:
        lesion: at the standard size.
    Returns:
        a value a name; what is undefined is not finite.
    """
    inside = lesion.inside & lesion.seen & (lesion.distance < -0.03)
    inside = inside if inside.any() else lesion.inside
    if not lesion.around.any():
        return {}
    return _pairs(lesion, inside) | _details(lesion, inside) | _patterns(lesion, inside)


def _pairs(lesion: Lesion, inside: np.ndarray) -> dict[str, float]:
    relative = lesion.smoothed(0.0125) / lesion.spread
    found = {}
    for scale, distance in _DISTANCES.items():
        step = max(1, round(distance * lesion.side))
        inner, outer = [], []
        for axis, (down, right) in _AXES.items():
            one, other = _ends(relative, inside, step * down, step * right)
            found[f"texture_{axis}_{scale}"] = _correlation(one, other)
            inner.append(np.mean((one - other) ** 2))
            one, other = _ends(relative, lesion.around, step * down, step * right)
            outer.append(np.mean((one - other) ** 2))
        found[f"texture_difference_{scale}"] = np.log((np.mean(inner) + _FAINT) / (np.mean(outer) + _FAINT))
    return found


def _ends(grey: np.ndarray, part: np.ndarray, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey values of both pixels of every pair within `part` that lie `down` and `right` pixels apart."""
    height, width = grey.shape
    first = np.nonzero(part[: height - down, : width - right] & part[down:, right:])
    return grey[first], grey[first[0] + down, first[1] + right]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(dtype=np.float64), other - other.mean(dtype=np.float64)
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def _details(lesion: Lesion, inside: np.ndarray) -> dict[str, float]:
    rim = (np.abs(lesion.distance) < 0.1) & lesion.seen
    found, inner, outer = {}, {}, {}
    for band, (fine, coarse) in _BANDS.items():
        detail = np.abs(lesion.smoothed(fine) - lesion.smoothed(coarse))
        inner[band], outer[band] = (detail[part].mean() / lesion.spread + _FAINT for part in (inside, lesion.around))
        found[f"texture_detail_{band}"] = np.log(inner[band] / outer[band])
        found[f"texture_rim_detail_{band}"] = np.log((detail[rim].mean() / lesion.spread + _FAINT) / outer[band])
    smooth = lesion.smoothed(0.02)
    down, right = (np.abs(change) for change in np.gradient(smooth))
    return found | {
        "texture_detail_slope": np.log(inner["fine"] / inner["coarse"]),
        "texture_around_slope": np.log(outer["fine"] / outer["coarse"]),
        "texture_layers": _excess(down[lesion.around], right[lesion.around]),
        "texture_layers_inside": _excess(down[inside], right[inside]),
    }


def _excess(down: np.ndarray, right: np.ndarray) -> float:
    return float((down.mean() - right.mean()) / (down.mean() + right.mean()))


def _patterns(lesion: Lesion, inside: np.ndarray) -> dict[str, float]:
    numbers = _binary_patterns(lesion.smoothed(0.0125), max(1, round(0.0375 * lesion.side)))[inside]
    shares = np.bincount(numbers, minlength=_MANY_RUNS + 1) / len(numbers)
    return {"texture_patterns_entropy": -(shares[shares > 0] * np.log(shares[shares > 0])).sum() / np.log(len(shares))}


def _binary_patterns(grey: np.ndarray, radius: int) -> np.ndarray:
    """int64 (height, width), how many of eight neighbours are as bright or brighter, if in one run; else 9."""
    height, width = grey.shape
    padded = np.pad(grey, radius, mode="edge")
    ring = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]
    rows, columns = ([radius * (1 + step[axis]) for step in ring] for axis in (0, 1))
    brighter = np.stack(
        [padded[row : row + height, column : column + width] >= grey for row, column in zip(rows, columns, strict=True)]
    )
    changes = np.count_nonzero(brighter != np.roll(brighter, 1, axis=0), axis=0)
    return np.where(changes <= 2, brighter.sum(axis=0), _MANY_RUNS)
