"""How a linear-array scanner turns tissue into a B-mode image: speckle, attenuation, log compression.

Echoes are simulated at complex baseband, that is, demodulated at the centre frequency. A pulse that is a
cosine under a Gaussian becomes a real Gaussian there, and a scatterer at depth z contributes its amplitude
turned by the phase 4πz/λ; many at random depths add up to a circular complex normal number (fully developed
speckle: Burckhardt 1978; Wagner, Smith, Sandrik and Lopez 1983), so each cell of the scan-line grid draws
one. The echo is the convolution with a point-spread function (the linear model of Jensen 1996, 'Field'),
Gaussian across the beam and widening hyperbolically away from the focus. Attenuation proportional to
frequency keeps a Gaussian pulse Gaussian and lowers its centre frequency (Szabo, 'Diagnostic Ultrasound
Imaging: Inside Out', 2014, chapter 4); integrated along each scan line, what differs from the time-gain
compensation is posterior shadow or enhancement.

- C. B. Burckhardt, 'Speckle in ultrasound B-mode scans', IEEE Trans. Sonics Ultrason. 25(1), 1978.
- R. F. Wagner et al., 'Statistics of speckle in ultrasound B-scans', IEEE Trans. Sonics Ultrason. 30(3),
  1983.
- J. A. Jensen, 'Field: a program for simulating ultrasound systems', Med. Biol. Eng. Comput. 34, 1996.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import scipy.fft

from ustoolkit.data.phantom_scanner import FULL_WIDTH_PER_SIGMA, SPEED_OF_SOUND_MM_PER_US, Scanner

NOMINAL_ATTENUATION = 0.6  # dB / (cm MHz), what the time-gain compensation takes all tissue for
_DB_PER_NEPER = 8.686


@dataclass(frozen=True)
class Grid:
    """The scan lines and their samples on which echoes are simulated.

    Attributes:
        rows: samples along depth.
        lines: scan lines, with a margin at either side that is cut off at the end.
        margin: lines cut off at the left.
        inside: lines that are left.
        axial_step_mm, line_pitch_mm: distance between neighbouring samples and lines.
    """

    rows: int
    lines: int
    margin: int
    inside: int
    axial_step_mm: float
    line_pitch_mm: float

    @classmethod
    def of(cls, scanner: Scanner, depth_mm: float, width_mm: float) -> "Grid":
        """The grid of a scanner for a region: fine enough for its pulse, some 2.5 samples a wavelength."""
        rows = round(2.5 * depth_mm / scanner.wavelength_mm)
        inside = round(width_mm / scanner.line_pitch_mm)
        margin = math.ceil(2.0 / scanner.line_pitch_mm)
        lines = scipy.fft.next_fast_len(inside + 2 * margin)
        return cls(rows, lines, (lines - inside) // 2, inside, depth_mm / rows, width_mm / inside)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and lines."""
        return self.rows, self.lines

    @property
    def depth_mm(self) -> float:
        """Depth of the region."""
        return self.rows * self.axial_step_mm

    @cached_property
    def depths_mm(self) -> np.ndarray:
        """float32 (rows, 1), depth of each sample."""
        return ((np.arange(self.rows, dtype=np.float32) + 0.5) * self.axial_step_mm)[:, None]

    @cached_property
    def positions_mm(self) -> np.ndarray:
        """float32 (1, lines), lateral position of each line; 0 is the left edge of the image."""
        lines = np.arange(self.lines, dtype=np.float32) - self.margin
        return ((lines + 0.5) * self.line_pitch_mm)[None, :]


@dataclass
class Tissue:
    """What the sound meets, on a grid.

    Attributes:
        echo_db: float32 (rows, lines), mean power of unresolved scatterers, glandular tissue = 0.
        reflector: float32 (rows, lines), amplitude of coherent echoes from interfaces.
        attenuation: float32 (rows, lines), dB / (cm MHz), one way.
    """

    echo_db: np.ndarray
    reflector: np.ndarray
    attenuation: np.ndarray


def envelope(
    tissue: Tissue,
    grid: Grid,
    scanner: Scanner,
    random: np.random.Generator,
    focus_mm: float,
    gain_error_db: np.ndarray | float = 0.0,
) -> np.ndarray:
    """The echo's envelope on the scan lines, after time-gain compensation and before log compression.

    Args:
        tissue: what the sound meets.
        grid: where `tissue` is sampled.
        scanner: the device.
        random: draws the scatterers and the electronic noise.
        focus_mm: depth of the transmit focus.
        gain_error_db: broadcastable to (rows, lines), errors of the compensation, contact losses.
    Returns:
        float32 (rows, lines without margins); the mean square of glandular tissue without losses is 1.
    """
    frequency = centre_frequency_mhz(grid.depths_mm, scanner)
    step_db = 2 * frequency * grid.axial_step_mm / 10  # two ways, mm to cm
    compensation = NOMINAL_ATTENUATION * np.cumsum(step_db, axis=0)
    loss_db: np.ndarray = np.cumsum(tissue.attenuation * step_db, axis=0)
    # A beam is as wide as its aperture above the focus, so a shadow's edge is never as sharp as the lesion's.
    loss_db = cv2.GaussianBlur(loss_db, (0, 0), sigmaX=0.5 / grid.line_pitch_mm, sigmaY=0.01)
    level_db = compensation - loss_db + gain_error_db
    amplitude = _amplitude(tissue.echo_db + level_db) * np.float32(math.sqrt(0.5))
    coherent = tissue.reflector * _amplitude(level_db)
    noise_db = compensation - _compensation_db(scanner.penetration_mm, scanner)
    noise_amplitude = _amplitude(noise_db) * np.float32(math.sqrt(0.5))

    across = _lateral_response(grid, scanner, focus_mm, frequency)
    kernel = _axial_kernel(scanner.axial_sigma_mm / grid.axial_step_mm)
    inside = slice(grid.margin, grid.margin + grid.inside)
    total: np.ndarray = np.zeros((), np.float32)
    for _ in range(scanner.looks):
        echoes = random.standard_normal((*grid.shape, 2), dtype=np.float32)
        echoes *= amplitude[..., None]
        echoes[..., 0] += coherent
        spectrum = scipy.fft.fft(echoes.view(np.complex64)[..., 0], axis=1, overwrite_x=True)
        spectrum *= across
        received = scipy.fft.ifft(spectrum, axis=1, overwrite_x=True)[:, inside]
        received = np.ascontiguousarray(received).view(np.float32).reshape(grid.rows, -1, 2)
        received += random.standard_normal(received.shape, dtype=np.float32) * noise_amplitude[..., None]
        received = cv2.sepFilter2D(received, cv2.CV_32F, np.ones(1, np.float32), kernel)
        total = total + cv2.magnitude(received[..., 0], received[..., 1])
    return total / np.float32(scanner.looks)


def centre_frequency_mhz(depths_mm: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Centre frequency of the echo from a depth: high frequencies are lost on the way.

    A Gaussian amplitude spectrum of width σ times exp(-2 a z f) is the same Gaussian moved down by 2 a z σ².
    """
    nepers_per_mhz = 2 * NOMINAL_ATTENUATION / _DB_PER_NEPER * depths_mm / 10
    lowered = scanner.frequency_mhz - nepers_per_mhz * scanner.spectral_sigma_mhz**2
    return np.maximum(lowered, 0.5 * scanner.frequency_mhz).astype(np.float32)


def log_compress(envelope: np.ndarray, scanner: Scanner, gain_db: float = 0.0) -> np.ndarray:
    """Grey levels of an envelope: the scanner's dynamic range, in decibels, spread over 0 to 255.

    Args:
        envelope: float32, any shape, as `envelope` returns it.
        scanner: the device.
        gain_db: the operator's overall gain.
    Returns:
        float32 in [0, 255], not rounded.
    """
    level_db = 20 * np.log10(np.maximum(envelope, np.float32(1e-6)))
    black_db = scanner.white_db - scanner.dynamic_range_db
    grey = (level_db + np.float32(gain_db - black_db)) * np.float32(255 / scanner.dynamic_range_db)
    return np.clip(grey, 0, 255)


def resample(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Brings values on the scan lines (margins cut off) to pixels, averaging or interpolating each axis.

    Args:
        values: float32 (rows, lines).
        size: height and width in pixels.
    Returns:
        float32 (height, width).
    """
    for width, height in ((values.shape[1], size[0]), (size[1], size[0])):
        shrinks = height < values.shape[0] or width < values.shape[1]
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return values


def _amplitude(level_db: np.ndarray) -> np.ndarray:
    """Amplitude ratio of decibels."""
    return cv2.exp(np.float32(math.log(10) / 20) * level_db.astype(np.float32))


def _compensation_db(depth_mm: float, scanner: Scanner) -> float:
    """What time-gain compensation adds at one depth."""
    on_the_way = np.linspace(0, depth_mm, 65)
    return 2 * NOMINAL_ATTENUATION * depth_mm / 10 * float(np.mean(centre_frequency_mhz(on_the_way, scanner)))


def _lateral_response(grid: Grid, scanner: Scanner, focus_mm: float, frequency_mhz: np.ndarray) -> np.ndarray:
    """Transfer function of the two-way beam at each depth, (rows, lines); white noise keeps its power."""
    wavelength = SPEED_OF_SOUND_MM_PER_US / frequency_mhz
    at_focus = 0.7 * wavelength * scanner.f_number / FULL_WIDTH_PER_SIGMA
    focal_depth = 7 * wavelength * scanner.f_number**2
    sigma = at_focus * np.sqrt(1 + ((grid.depths_mm - focus_mm) / focal_depth) ** 2) / grid.line_pitch_mm
    wave_number = 2 * np.pi * scipy.fft.fftfreq(grid.lines)[None, :]
    response = cv2.exp((-0.5 * sigma**2 * wave_number**2).astype(np.float32))
    return response / np.sqrt(np.mean(response**2, axis=1, keepdims=True))


def _axial_kernel(sigma: float) -> np.ndarray:
    """The pulse's envelope in samples, of unit energy."""
    reach = max(1, math.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (kernel / np.sqrt(np.sum(kernel**2))).astype(np.float32)
