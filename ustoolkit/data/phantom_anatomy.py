"""Breast tissue in layers: skin, fat with Cooper's ligaments, glandular tissue, muscle, chest wall.

Attenuation and echo levels follow the ranges in Szabo, 'Diagnostic Ultrasound Imaging: Inside Out', 2014,
appendix B, and the usual reading of a breast scan: fat is darker than glandular tissue, interfaces across the
beam are bright.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ustoolkit.data.phantom_scan import Grid, Tissue

FAT_ATTENUATION = 0.5
GLAND_ATTENUATION = 0.7
MUSCLE_ATTENUATION = 0.9
SKIN_ATTENUATION = 1.0
BONE_ATTENUATION = 1.0


@dataclass(frozen=True)
class Breast:
    """One patient's layers; depths are means, each view lets them undulate.

    Attributes:
        skin_mm, fat_mm, gland_mm, muscle_mm: depth at which the layer ends.
        fat_db, muscle_db: echo level, glandular tissue = 0.
        lobules: how much of the glandular layer is fat, 0 (dense breast) to 1 (fatty breast).
        fibrosis: strength of the bright strands in glandular tissue, 0 to 1.
    """

    skin_mm: float
    fat_mm: float
    gland_mm: float
    muscle_mm: float
    fat_db: float
    muscle_db: float
    lobules: float
    fibrosis: float

    @classmethod
    def draw(cls, depth_mm: float, random: np.random.Generator) -> "Breast":
        """A patient's breast, drawn for an imaging depth."""
        skin = random.uniform(1.0, 2.2)
        fat = skin + depth_mm * random.uniform(0.05, 0.25)
        gland = fat + depth_mm * random.uniform(0.32, 0.55)
        muscle = gland + depth_mm * random.uniform(0.15, 0.6)
        return cls(
            skin,
            fat,
            gland,
            muscle,
            fat_db=random.uniform(-12, -7),
            muscle_db=random.uniform(-12, -7),
            lobules=random.uniform(0, 1),
            fibrosis=random.uniform(0, 1),
        )


def breast_tissue(grid: Grid, breast: Breast, random: np.random.Generator) -> Tissue:
    """One plane through a breast without a lesion.

    Args:
        grid: where to sample it.
        breast: the patient.
        random: draws this plane.
    """
    z = grid.depths_mm
    skin = _boundary(grid, breast.skin_mm, 0.2, 15, random)
    fat = np.maximum(_boundary(grid, breast.fat_mm, 1.3, 9, random), skin + 1)
    gland = np.maximum(_boundary(grid, breast.gland_mm, 0.8, 16, random), fat + 2)
    wall = np.maximum(_boundary(grid, breast.muscle_mm, 0.5, 18, random), gland + 3)

    grain = smooth_noise(grid, (0.45, 2.5), random)
    broad = smooth_noise(grid, (3, 9), random)
    fat_share = _step((fat - z) / 1.2 + 0.5 + 0.35 * grain)
    lobules = smooth_noise(grid, (3.0, 8), random)
    gland_share = 1 - fat_share
    fat_share += gland_share * _step((lobules + 0.2 * grain - (1.5 - 1.2 * breast.lobules)) / 0.5)
    gland_share = 1 - fat_share
    echo = fat_share * (breast.fat_db + grain + broad) + gland_share * (2.5 * grain + 2.5 * broad)
    attenuation = np.float32(GLAND_ATTENUATION) + fat_share * np.float32(FAT_ATTENUATION - GLAND_ATTENUATION)

    # Each strand and septum is broken up, as it leaves and enters the plane.
    broken = _step(0.6 + 0.9 * smooth_noise(grid, (2, 5), random))
    septa = broken * _strands(grid, smooth_noise(grid, (2.2, 10), random), 0.16)
    fibres = broken * _strands(grid, smooth_noise(grid, (1.3, 7), random), 0.14)
    echo += fat_share * 11 * septa + gland_share * (9 * breast.fibrosis) * fibres
    reflector = fat_share * 0.9 * septa + gland_share * (0.9 * breast.fibrosis) * fibres

    _lay_muscle(echo, attenuation, reflector, grid, breast, gland, random)
    _lay_chest_wall(echo, attenuation, reflector, grid, wall)
    in_skin = z < skin
    echo = np.where(in_skin, 4 + 2 * grain, echo)
    attenuation = np.where(in_skin, np.float32(SKIN_ATTENUATION), attenuation)
    reflector *= ~in_skin
    for boundary, strength in ((skin, 2.0), (skin - breast.skin_mm + 0.25, 4.0), (fat, 0.5), (gland, 2.5)):
        add_interface(reflector, grid, boundary, strength, random)
    return Tissue(echo.astype(np.float32), reflector, attenuation.astype(np.float32))


def smooth_noise(grid: Grid, scale_mm: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """A smooth random field, mean 0 and standard deviation about 0.8.

    Args:
        grid: where to sample it.
        scale_mm: distance along depth and across lines over which it changes.
        random: draws it.
    Returns:
        float32 (rows, lines).
    """
    rows = round(grid.depth_mm / scale_mm[0]) + 3
    columns = round(grid.lines * grid.line_pitch_mm / scale_mm[1]) + 3
    coarse = random.standard_normal((rows, columns), dtype=np.float32)
    return cv2.resize(coarse, grid.shape[::-1], interpolation=cv2.INTER_CUBIC)


def add_interface(
    reflector: np.ndarray, grid: Grid, boundary_mm: np.ndarray, strength: float, random: np.random.Generator
) -> None:
    """Adds the coherent echo of an interface; steep parts reflect the sound away from the array.

    Args:
        reflector: float32 (rows, lines), changed in place.
        grid: where it is sampled.
        boundary_mm: float32 (1, lines), the interface's depth.
        strength: amplitude where it lies flat, glandular speckle = 1.
        random: draws how the strength varies along the interface.
    """
    slope = np.gradient(boundary_mm[0], grid.line_pitch_mm)
    patches = _wave(grid, 3.5, random)
    along = strength * np.exp(-((slope / 0.35) ** 2)) * np.clip(0.5 + 0.7 * patches, 0, None)
    rows = np.rint(boundary_mm[0] / grid.axial_step_mm - 0.5).astype(int)
    lines = np.flatnonzero((rows >= 0) & (rows < grid.rows - 1))
    for thickness in (0, 1):
        reflector[rows[lines] + thickness, lines] += along[lines]


def _lay_muscle(
    echo: np.ndarray,
    attenuation: np.ndarray,
    reflector: np.ndarray,
    grid: Grid,
    breast: Breast,
    top: np.ndarray,
    random: np.random.Generator,
) -> None:
    """Pectoral muscle below `top`: dark, with bright striae along its fascia."""
    below = grid.depths_mm - top
    inside = below > 0
    profile = random.standard_normal(int(grid.depth_mm / 0.55) + 8).astype(np.float32)
    tilt = random.uniform(-0.12, 0.12) * grid.positions_mm
    at = np.clip((below + tilt) / 0.55 + 6, 0, len(profile) - 1.001)
    striae = np.clip(np.interp(at, np.arange(len(profile)), profile) - 0.5, 0, 2).astype(np.float32)
    striae *= _step(0.5 + smooth_noise(grid, (1.0, 7), random))
    np.copyto(echo, breast.muscle_db + 7 * striae, where=inside)
    np.copyto(attenuation, np.float32(MUSCLE_ATTENUATION), where=inside)
    np.copyto(reflector, 0.35 * striae, where=inside)


def _lay_chest_wall(
    echo: np.ndarray, attenuation: np.ndarray, reflector: np.ndarray, grid: Grid, top: np.ndarray
) -> None:
    """Ribs and pleura below `top`: a bright line, then next to nothing."""
    below = grid.depths_mm - top
    inside = below > 0
    np.copyto(echo, 4 - 12 * np.minimum(below, 2.0) - np.minimum(below, 20), where=inside)
    np.copyto(attenuation, np.float32(BONE_ATTENUATION), where=inside)
    np.copyto(reflector, 2.5 * np.exp(-((below / 0.2) ** 2)), where=inside)


def _boundary(grid: Grid, mean_mm: float, wave_mm: float, scale_mm: float, random: np.random.Generator) -> np.ndarray:
    """Depth of an undulating, slightly tilted layer boundary, float32 (1, lines)."""
    x = grid.positions_mm / grid.positions_mm[0, -1] - 0.5
    tilt = random.normal(0, 1.2 * wave_mm) * x
    return (mean_mm + wave_mm * _wave(grid, scale_mm, random)[None, :] + tilt).astype(np.float32)


def _wave(grid: Grid, scale_mm: float, random: np.random.Generator) -> np.ndarray:
    """A smooth random function of lateral position, float32 (lines,)."""
    count = round(grid.lines * grid.line_pitch_mm / scale_mm) + 3
    coarse = random.standard_normal((1, count), dtype=np.float32)
    return cv2.resize(coarse, (grid.lines, 1), interpolation=cv2.INTER_CUBIC)[0]


def _strands(grid: Grid, noise: np.ndarray, thickness_mm: float) -> np.ndarray:
    """Curved lines where a random field crosses zero: 1 across the beam, fading along it."""
    down = cv2.Sobel(noise, cv2.CV_32F, 0, 1, ksize=1, scale=0.5 / grid.axial_step_mm)
    right = cv2.Sobel(noise, cv2.CV_32F, 1, 0, ksize=1, scale=0.5 / grid.line_pitch_mm)
    steepness = down * down + right * right + np.float32(1e-4)
    return cv2.exp(-noise * noise / (steepness * np.float32(thickness_mm**2))) * (down * down / steepness)


def _step(values: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, linear between."""
    return np.clip(values, 0, 1)
