"""What another scanner, probe or operator does to an image's grey values, never to its mask; and how it is drawn.

Both engines of augmentation, imgaug's and TensorFlow's, draw from the ranges that stand here.
"""

import cv2
import numpy as np
from scipy.special import ndtri

# A speckle cell is about as large as the point-spread function (Wagner, Smith, Sandrik and Lopez 1983): its width at
# half height, in pixels.
SPECKLE_CELL = (1.0, 3.0)
WIDTH_PER_DEVIATION = 2.3548  # of a Gaussian, full width at half maximum
SPECKLE_REACH = 4  # pixels; three deviations of the largest cell
# Of an amplitude whose two quadratures are standard normal (Rayleigh; Burckhardt 1978).
RAYLEIGH_MEAN = float(np.sqrt(np.pi / 2))
RAYLEIGH_DEVIATION = float(np.sqrt(2 - np.pi / 2))

# Of a shadow; fractions of the depth and of the width.
SHADOW = (
    (0.1, 0.7),  # depth where it starts
    (0.1, 0.9),  # its centre there
    (0.03, 0.12),  # half its width there
    (0.0, 0.6),  # growth of its width over the whole depth: 0 for a linear array
    (0.8, 2.0),  # soft edge, of the half width: the aperture sees past what casts the shadow
    (0.3, 0.85),  # share of the grey value that full shadow takes
)
SHADOW_ONSET = 0.15  # of the depth, until it is full

_QUANTILES = ndtri((np.arange(256) + 0.5) / 256)
# Normal numbers by 256 of their quantiles, which a byte picks: several times as fast as drawing them.
NORMAL_BY_BYTE = (_QUANTILES / _QUANTILES.std()).astype(np.float32)


def coarser(image: np.ndarray, axial: float, lateral: float) -> np.ndarray:
    """Loses detail as by a scanner of lower resolution: averaged over larger cells, then interpolated.

    Args:
        image: uint8 (height, width, channels).
        axial: factor along the depth (rows), from 1; set by the pulse's length.
        lateral: factor across (columns), from 1; set by the beam's width.
    Returns:
        uint8, of the same shape.
    """
    height, width = image.shape[:2]
    size = max(1, round(width / lateral)), max(1, round(height / axial))
    if size == (width, height):
        return image
    coarse = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(image.shape)


def blurred(image: np.ndarray, deviation: float) -> np.ndarray:
    """Smooths as a scanner's own speckle reduction and resizing do.

    Args:
        image: uint8 (height, width, channels).
        deviation: of the Gaussian, pixels; the kernel reaches three of them.
    Returns:
        uint8, of the same shape.
    """
    taps = 2 * (round(6 * deviation + 1) // 2) + 1
    if taps == 1:
        return image
    # In float32: OpenCV's integers would round each tap to 1/256, and be slower where there are many.
    smooth = cv2.GaussianBlur(image.astype(np.float32), (taps, taps), deviation)
    return np.rint(smooth, out=smooth).astype(np.uint8).reshape(image.shape)


def speckle_pattern(size: tuple[int, int], cell: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """Fully developed speckle: the amplitude of many echoes of random phase, correlated as the point-spread function.

    Burckhardt, 'Speckle in ultrasound B-mode scans', 1978; Wagner, Smith, Sandrik and Lopez, 'Statistics of speckle
    in ultrasound B-scans', 1983.

    Args:
        size: height and width.
        cell: axial and lateral width of a speckle cell at half height, pixels.
        random: draws the echoes.
    Returns:
        float32 (height, width), Rayleigh, brought to mean 0 and deviation 1.
    """
    height, width = size[0] + 2 * SPECKLE_REACH, size[1] + 2 * SPECKLE_REACH
    picks = np.frombuffer(random.bytes(2 * height * width), np.uint8).reshape(2, height, width)
    axial, lateral = (_unit_energy(length / WIDTH_PER_DEVIATION) for length in cell)
    inside = slice(SPECKLE_REACH, -SPECKLE_REACH)
    quadratures = [cv2.sepFilter2D(cv2.LUT(pick, NORMAL_BY_BYTE), cv2.CV_32F, lateral, axial) for pick in picks]
    amplitude: np.ndarray = cv2.magnitude(*(np.ascontiguousarray(values[inside, inside]) for values in quadratures))
    amplitude -= np.float32(RAYLEIGH_MEAN)
    amplitude *= np.float32(1 / RAYLEIGH_DEVIATION)
    return amplitude


def speckled(image: np.ndarray, pattern: np.ndarray, deviation: float) -> np.ndarray:
    """Multiplies with speckle; a deviation of 0.52 is that of fully developed speckle before compression.

    Args:
        image: uint8 (height, width, channels).
        pattern: float32 (height, width), as `speckle_pattern` returns it.
        deviation: of the factor around 1; a factor below 0 becomes 0.
    Returns:
        uint8, of the same shape.
    """
    return _multiplied(image, 1 + np.float32(deviation) * pattern)


def amplified(image: np.ndarray, top: float, bottom: float) -> np.ndarray:
    """Time gain compensation set otherwise: a factor that changes evenly along the depth.

    Szabo, 'Diagnostic Ultrasound Imaging: Inside Out', 2014, chapter 10.

    Args:
        image: uint8 (height, width, channels).
        top: factor of the first row.
        bottom: factor of the last row.
    Returns:
        uint8, of the same shape.
    """
    ramp = np.linspace(top, bottom, image.shape[0], dtype=np.float32)[:, np.newaxis]
    return _multiplied(image, np.broadcast_to(ramp, image.shape[:2]))


def shadow_profile(
    size: tuple[int, int], start: float, centre: float, half_width: float, spread: float, edge: float
) -> np.ndarray:
    """Where the shadow of a calcification, a rib or lost contact lies: a strip along the beams, to the bottom.

    Args:
        size: height and width.
        start: depth from which on, fraction of the height.
        centre: of the strip where it starts, fraction of the width.
        half_width: there, fraction of the width.
        spread: by which share the beams diverge over the whole depth: 0 for a linear array.
        edge: width of the soft edge, of the half width; half of it lies outside.
    Returns:
        float32 (height, width), 0 outside to 1 in full shadow.
    """
    below = (np.arange(size[0], dtype=np.float32) + 0.5) / size[0] - start
    across = (np.arange(size[1], dtype=np.float32) + 0.5) / size[1] - 0.5
    # Followed along its beam up to the depth where the shadow starts, where does a pixel lie?
    narrowing = 1 / (1 + spread * np.maximum(below, 0))
    distance = np.abs(narrowing[:, np.newaxis] * across - np.float32(centre - 0.5))
    inside = _smooth_step((half_width - distance) * np.float32(1 / (edge * half_width)) + np.float32(0.5))
    return inside * _smooth_step(below * np.float32(1 / SHADOW_ONSET))[:, np.newaxis]


def shadowed(image: np.ndarray, profile: np.ndarray, loss: float) -> np.ndarray:
    """Darkens what lies in shadow.

    Args:
        image: uint8 (height, width, channels).
        profile: float32 (height, width), as `shadow_profile` returns it.
        loss: share of the grey value lost in full shadow, 0 to 1.
    Returns:
        uint8, of the same shape.
    """
    return _multiplied(image, 1 - np.float32(loss) * profile)


def _multiplied(image: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Rounded, and kept within 0 to 255; all channels alike."""
    channels = image.shape[2]
    factor = np.ascontiguousarray(factor) if channels == 1 else cv2.merge([np.ascontiguousarray(factor)] * channels)
    return cv2.multiply(image.astype(np.float32).reshape(factor.shape), factor, dtype=cv2.CV_8U).reshape(image.shape)


def _smooth_step(values: np.ndarray) -> np.ndarray:
    values = np.clip(values, 0, 1)
    return values * values * (3 - 2 * values)


def _unit_energy(deviation: float) -> np.ndarray:
    """A Gaussian kernel that keeps the variance of white noise."""
    kernel = np.exp(-0.5 * (np.arange(-SPECKLE_REACH, SPECKLE_REACH + 1) / deviation) ** 2)
    return (kernel / np.sqrt(np.sum(kernel**2))).astype(np.float32)
