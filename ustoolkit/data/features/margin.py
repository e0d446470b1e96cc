"""The lesion's margin: how rough its outline is, and how sharply the grey values change there.

BI-RADS's circumscribed, indistinct, angular, microlobulated and spiculated, and the halo. Outlines that were drawn by
hand and those of a segmenter differ in fine detail, so the outline is measured coarse and fine.
"""

import cv2
import numpy as np
from scipy import ndimage, signal

from ustoolkit.data.features.lesion import OUTLINE_POINTS, Lesion, Measurement

MEASUREMENTS: dict[str, Measurement] = {
    "margin_radius_spread": Measurement(0.0, "standard deviation of the distance from the middle, by its mean"),
    "margin_radius_roughness": Measurement(0.0, "mean difference of that distance and its smooth course, by its mean"),
    "margin_lobulation": Measurement(-4.0, "logarithm (10) of the outline's power in harmonics 2 to 4, ellipse apart"),
    "margin_angularity": Measurement(-4.0, "as before, harmonics 5 to 9"),
    "margin_spiculation": Measurement(-4.0, "as before, harmonics 10 to 24"),
    "margin_turning": Measurement(1.0, "angles turned along the outline smoothed by 0.06 sides, whole turns"),
    "margin_turning_fine": Measurement(1.0, "angles turned along the outline smoothed by 0.02 sides, whole turns"),
    "margin_corners": Measurement(0.0, "share of the outline that bends outwards three times as much as a disc"),
    "margin_spikes": Measurement(0.0, "how many places of the outline stick out sharply"),
    "margin_tangent_entropy": Measurement(1.0, "entropy of the outline's directions, by that of a disc"),
    "margin_contrast": Measurement(0.0, "grey levels just outside less those just inside, by their spread around"),
    "margin_contrast_lowest": Measurement(0.0, "as before, the quarter of the outline where it is least"),
    "margin_contrast_above": Measurement(0.0, "as before, of the upper part of the outline"),
    "margin_contrast_below": Measurement(0.0, "as before, of the lower part"),
    "margin_step": Measurement(0.0, "strongest change of grey within 0.1 sides of the outline, by their spread"),
    "margin_step_lowest": Measurement(0.0, "as before, the quarter of the outline where it is least"),
    "margin_sharpness": Measurement(0.5, "of the change across the outline, the share within 0.04 sides"),
    "margin_indistinct_share": Measurement(0.5, "share of the outline with less contrast than half the spread"),
    "margin_halo": Measurement(0.0, "grey levels at 0.04 to 0.2 sides less those at 0.3 to 0.5, by their spread"),
    "margin_waviness": Measurement(0.0, "how far the strongest change lies from its smooth course, sides"),
    "margin_radial_share": Measurement(0.5, "share of the change of grey around it that goes along the outline"),
}

_REACH, _STEP = 0.3, 0.02  # sides: profiles across the outline, and the distance of their samples
_PROFILES = 128


def margin_features(lesion: Lesion) -> dict[str, float]:
    """Measures what `MEASUREMENTS` lists.

    Args:
        lesion: at the standard size.
    Returns:
        a value a name; what is undefined is not finite.
    """
    return _outline_features(lesion) | _profile_features(lesion) | _ring_features(lesion)


def _outline_features(lesion: Lesion) -> dict[str, float]:
    outline = lesion.outline
    line = outline[:, 1] + 1j * outline[:, 0]
    radius = np.abs(line - line.mean())
    power = np.abs(np.fft.fft(line)) ** 2
    whole = max(power[1], power[-1])

    def harmonics(first: int, last: int) -> float:
        orders = np.arange(first, last + 1)
        return float(np.log10((power[orders].sum() + power[-orders].sum()) / whole + 1e-6))

    length = np.hypot(*np.diff(outline, axis=0, append=outline[:1]).T).sum()
    coarse, fine = (_bends(line, width * lesion.side / length * OUTLINE_POINTS) for width in (0.06, 0.02))
    disc = 2 * np.pi / OUTLINE_POINTS
    turned = coarse if coarse.sum() > 0 else -coarse  # so that outwards is positive
    directions = np.angle(np.diff(_smooth(line, 2.0), append=_smooth(line, 2.0)[:1])) % (2 * np.pi)
    shares = np.histogram(directions, 24, (0, 2 * np.pi))[0] / OUTLINE_POINTS
    return {
        "margin_radius_spread": radius.std() / radius.mean(),
        "margin_radius_roughness": np.abs(radius - ndimage.gaussian_filter1d(radius, 6, mode="wrap")).mean()
        / radius.mean(),
        "margin_lobulation": harmonics(2, 4),
        "margin_angularity": harmonics(5, 9),
        "margin_spiculation": harmonics(10, 24),
        "margin_turning": np.abs(coarse).sum() / (2 * np.pi),
        "margin_turning_fine": np.abs(fine).sum() / (2 * np.pi),
        "margin_corners": np.mean(turned > 3 * disc),
        "margin_spikes": _spikes(turned),
        "margin_tangent_entropy": -(shares[shares > 0] * np.log(shares[shares > 0])).sum() / np.log(24),
    }


def _smooth(line: np.ndarray, points: float) -> np.ndarray:
    """A closed line of complex numbers after a Gaussian low-pass of `points` points."""
    how = {"sigma": max(points, 0.1), "mode": "wrap"}
    return ndimage.gaussian_filter1d(line.real, **how) + 1j * ndimage.gaussian_filter1d(line.imag, **how)


def _bends(line: np.ndarray, points: float) -> np.ndarray:
    """float64 (256,), radians, the angle turned at each point of the smoothed line."""
    steps = np.diff(_smooth(line, points), append=_smooth(line, points)[:1])
    return np.angle(steps * np.conj(np.roll(steps, 1)))


def _spikes(turned: np.ndarray) -> int:
    """The number of peaks of the bend, outwards positive, that are four times as sharp as a disc's."""
    sharp = 4 * 2 * np.pi / OUTLINE_POINTS
    around = np.roll(turned, -int(turned.argmin()))  # so that no peak lies at the ends
    return len(signal.find_peaks(around, height=sharp, prominence=sharp)[0])


def _profile_features(lesion: Lesion) -> dict[str, float]:
    offsets = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    profiles, normals = _profiles(lesion, offsets)
    outer, inner = (offsets > 0.03) & (offsets < 0.21), (offsets < -0.03) & (offsets > -0.21)
    contrast = (profiles[:, outer].mean(axis=1) - profiles[:, inner].mean(axis=1)) / lesion.spread
    near = np.flatnonzero(np.abs(offsets) < 0.11)
    half = 4  # samples on each side: 0.08 sides
    steps = np.stack([profiles[:, i + 1 : i + 1 + half].mean(1) - profiles[:, i - half : i].mean(1) for i in near], 1)
    steps /= lesion.spread
    defined = np.isfinite(contrast) & np.isfinite(steps).all(axis=1)
    if not defined.any():
        return {}
    contrast, steps, normals, profiles = contrast[defined], steps[defined], normals[defined], profiles[defined]
    best = steps.argmax(axis=1)
    strongest = steps.max(axis=1)
    place = offsets[near][best]
    rows = np.arange(len(best))
    at = near[best]
    sharp = (profiles[rows, at + 1] - profiles[rows, at - 1]) / (profiles[rows, at + 4] - profiles[rows, at - 4])
    above, below = normals[:, 0] < -0.7, normals[:, 0] > 0.7
    return {
        "margin_contrast": np.median(contrast),
        "margin_contrast_lowest": np.percentile(contrast, 25),
        "margin_contrast_above": _median(contrast[above]),
        "margin_contrast_below": _median(contrast[below]),
        "margin_step": np.median(strongest),
        "margin_step_lowest": np.percentile(strongest, 25),
        "margin_sharpness": np.clip(_median(sharp[np.isfinite(sharp)]), -1, 2),
        "margin_indistinct_share": np.mean(contrast < 0.5),
        "margin_waviness": np.abs(place - ndimage.gaussian_filter1d(place, 5, mode="wrap")).mean(),
    }


def _profiles(lesion: Lesion, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey values across the outline, float64 (128, offsets), NaN outside of the scan; normals (128, 2) outwards."""
    every = OUTLINE_POINTS // _PROFILES
    line = _smooth(lesion.outline[:, 1] + 1j * lesion.outline[:, 0], 4.0)
    along = (np.roll(line, -1) - np.roll(line, 1))[::every]
    points = lesion.outline[::every]
    along /= np.maximum(np.abs(along), 1e-9)
    normals = np.stack([-along.real, along.imag], axis=1)  # row, column
    enclosed = (line.real * np.roll(line.imag, -1) - np.roll(line.real, -1) * line.imag).sum()
    normals *= 1 if enclosed > 0 else -1
    places = points[:, np.newaxis] + normals[:, np.newaxis] * (offsets * lesion.side)[:, np.newaxis]
    rows, columns = places[..., 0].astype(np.float32), places[..., 1].astype(np.float32)
    values = cv2.remap(lesion.smoothed(0.015), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = cv2.remap(lesion.seen.astype(np.uint8), columns, rows, cv2.INTER_NEAREST, borderValue=0)
    return np.where(seen > 0, values, np.nan).astype(np.float64), normals


def _ring_features(lesion: Lesion) -> dict[str, float]:
    distance, seen = lesion.distance, lesion.seen & ~lesion.posterior
    near, far = (distance > 0.04) & (distance < 0.2) & seen, (distance > 0.3) & (distance < 0.5) & seen
    smooth = lesion.smoothed(0.025)
    across = np.gradient(cv2.GaussianBlur(distance, (0, 0), 2.0))
    change = np.gradient(smooth)
    length = np.maximum(np.hypot(*across), 1e-9)
    outwards = (change[0] * across[0] + change[1] * across[1]) / length
    energy = change[0] ** 2 + change[1] ** 2
    ring = (distance > 0.05) & (distance < 0.35) & lesion.seen
    return {
        "margin_halo": (_median(lesion.grey[near]) - _median(lesion.grey[far])) / lesion.spread,
        "margin_radial_share": 1 - (outwards[ring] ** 2).sum() / energy[ring].sum(),
    }


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else float("nan")
