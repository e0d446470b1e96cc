"""Breast lesions for phantoms: cysts, fibroadenomas and carcinomas, as the BI-RADS lexicon describes them.

A benign mass is oval, parallel to the skin, circumscribed and homogeneous, and lets sound through; a
malignant one is irregular or spiculated, taller than wide, heterogeneous, ringed by an echogenic halo, and
casts a shadow (Stavros et al., 'Solid breast nodules: use of sonography to distinguish between benign and
malignant lesions', Radiology 196, 1995).
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from ustoolkit.data.phantom_anatomy import Breast, smooth_noise
from ustoolkit.data.phantom_scan import NOMINAL_ATTENUATION, Grid, Tissue

_ANGLES = np.linspace(-math.pi, math.pi, 721)
_MOST_SHADOW_DB = 20.0


@dataclass(frozen=True)
class Lesion:
    """What all views of one lesion share.

    Attributes:
        finding: 'cyst', 'fibroadenoma' or 'carcinoma'.
        area_fraction: of the imaged region, in the plane through its middle.
        height_over_width: below 1 where it lies parallel to the skin.
        echo_db: echo level, glandular tissue = 0.
        attenuation: dB / (cm MHz).
        roughness: how irregular the outline is, in parts of the radius.
        capsule: amplitude of the coherent echo from its wall; 0 where there is none.
        halo_db: how much brighter the tissue around it is.
        edge_shadows: whether its flanks refract the sound away.
        margin_mm: distance over which it turns into the tissue around.
        heterogeneity_db: standard deviation of the echo level inside.
    """

    finding: str
    area_fraction: float
    height_over_width: float
    echo_db: float
    attenuation: float
    roughness: float
    capsule: float
    halo_db: float
    edge_shadows: bool
    margin_mm: float
    heterogeneity_db: float

    @property
    def label(self) -> str:
        """'malignant' or 'benign'."""
        return "malignant" if self.finding == "carcinoma" else "benign"

    @classmethod
    def draw(cls, random: np.random.Generator) -> "Lesion":
        """A patient's lesion: one in three is malignant, one in six of all is small."""
        malignant = random.random() < 1 / 3
        cyst = not malignant and random.random() < 0.3
        low, high = (0.008, 0.02) if random.random() < 1 / 6 else (0.02, 0.25)
        area = math.exp(random.uniform(math.log(low), math.log(high)))
        if malignant:
            return cls(
                "carcinoma",
                area,
                height_over_width=random.uniform(0.95, 1.6),
                echo_db=random.uniform(-17, -8.5),
                attenuation=random.uniform(1.3, 2.4),
                roughness=random.uniform(0.08, 0.18),
                capsule=0.0,
                halo_db=random.uniform(2, 6),
                edge_shadows=False,
                margin_mm=random.uniform(0.6, 1.8),
                heterogeneity_db=random.uniform(2.5, 4.5),
            )
        return cls(
            "cyst" if cyst else "fibroadenoma",
            area,
            height_over_width=random.uniform(0.42, 0.85),
            echo_db=random.uniform(-50, -30) if cyst else random.uniform(-17, -8),
            attenuation=random.uniform(0.05, 0.15) if cyst else random.uniform(0.25, 0.45),
            roughness=random.uniform(0.01, 0.05),
            capsule=random.uniform(0.5, 1.8) if random.random() < 0.6 else 0.0,
            halo_db=0.0,
            edge_shadows=bool(random.random() < 0.4),
            margin_mm=random.uniform(0.2, 0.7),
            heterogeneity_db=random.uniform(1.0, 2.5),
        )


@dataclass(frozen=True)
class Outline:
    """A lesion's border in one plane: a radius for each direction from its centre.

    Attributes:
        centre_mm: (depth, lateral position).
        radii_mm: float32 (721,), for angles from -π to π, 0 pointing right and π/2 down.
    """

    centre_mm: tuple[float, float]
    radii_mm: np.ndarray

    @classmethod
    def draw(cls, lesion: Lesion, breast: Breast, grid: Grid, random: np.random.Generator) -> "Outline":
        """One plane through a lesion, placed where it fits, in glandular tissue rather than elsewhere."""
        width_mm = grid.inside * grid.line_pitch_mm
        radii = _shape(lesion, random)
        area = 0.5 * np.sum(radii[:-1] ** 2) * (_ANGLES[1] - _ANGLES[0])
        fraction = lesion.area_fraction * random.uniform(0.75, 1.1)
        radii *= math.sqrt(fraction * width_mm * grid.depth_mm / area)
        down, right = radii * np.sin(_ANGLES), radii * np.cos(_ANGLES)
        top, bottom = breast.skin_mm + 0.8, grid.depth_mm - 0.8
        smaller = min(1.0, (bottom - top) / np.ptp(down), 0.92 * width_mm / np.ptp(right))
        down, right, radii = down * smaller, right * smaller, radii * smaller
        wanted = random.normal((breast.fat_mm + breast.gland_mm) / 2, 0.2 * (breast.gland_mm - breast.fat_mm))
        depth = float(np.clip(wanted, top - down.min(), bottom - down.max()))
        left_most, right_most = -right.min() + 0.03 * width_mm, 0.97 * width_mm - right.max()
        position = left_most + (right_most - left_most) * random.beta(1.7, 1.7)
        return cls((depth, position), radii.astype(np.float32))

    def distance_mm(self, grid: Grid) -> np.ndarray:
        """Distance from the border along the ray from the centre, float32 (rows, lines), negative inside."""
        down = np.repeat(grid.depths_mm - np.float32(self.centre_mm[0]), grid.lines, axis=1)
        right = np.repeat(grid.positions_mm - np.float32(self.centre_mm[1]), grid.rows, axis=0)
        radius, angle = cv2.cartToPolar(right, down)
        at = (angle * np.float32(720 / (2 * math.pi)) + 360.5).astype(np.int32) % 720
        return radius - self.radii_mm[at]

    @property
    def reach_mm(self) -> tuple[float, float, float, float]:
        """How far it reaches from its centre: up, down, left, right; all positive."""
        down, right = self.radii_mm * np.sin(_ANGLES), self.radii_mm * np.cos(_ANGLES)
        return -float(down.min()), float(down.max()), -float(right.min()), float(right.max())


def place_lesion(
    tissue: Tissue,
    grid: Grid,
    lesion: Lesion,
    outline: Outline,
    frequency_mhz: float,
    random: np.random.Generator,
) -> np.ndarray:
    """Puts a lesion into tissue.

    Args:
        tissue: changed in place.
        grid: where `tissue` is sampled.
        lesion, outline: what to put where.
        frequency_mhz: of the scanner; keeps the shadow of a large lesion from blackening all below it.
        random: draws the lesion's inside.
    Returns:
        float32 (rows, lines), distance from the lesion's border in millimetres, negative inside.
    """
    distance = outline.distance_mm(grid)
    inside = np.clip(0.5 - distance / np.float32(lesion.margin_mm), 0, 1)
    up, down, left, right = outline.reach_mm
    if lesion.halo_db:
        patches = np.clip(0.6 + 0.6 * smooth_noise(grid, (2, 3), random), 0, None)
        width = 0.8 + 0.1 * (up + down)
        tissue.echo_db += lesion.halo_db * patches * cv2.exp(-(((distance - 0.5 * width) / width) ** 2))
    level = lesion.echo_db + lesion.heterogeneity_db * smooth_noise(grid, (1.3, 2.0), random)
    if lesion.finding == "cyst":
        # Reverberation from the near wall fills the top of a cyst with haze.
        level += 18 * cv2.exp(-np.abs(distance) / np.float32(0.9)) * (grid.depths_mm < outline.centre_mm[0])
    tissue.echo_db += inside * (level - tissue.echo_db)
    tissue.reflector *= 1 - inside

    most = NOMINAL_ATTENUATION + _MOST_SHADOW_DB / (2 * frequency_mhz * (up + down) / 10)
    tissue.attenuation += inside * (min(lesion.attenuation, most) - tissue.attenuation)
    offset = grid.positions_mm - np.float32(outline.centre_mm[1])
    rim = np.abs(distance) < 0.35
    if lesion.edge_shadows:
        tissue.attenuation += 1.8 * rim * ((offset > 0.85 * right) | (offset < -0.85 * left))
    if lesion.capsule:
        facing = np.clip((1 - (offset / max(left, right)) ** 2), 0, 1) ** 2
        tissue.reflector += lesion.capsule * cv2.exp(-((distance / np.float32(0.12)) ** 2)) * facing
    if lesion.finding == "carcinoma":
        _add_calcifications(tissue.reflector, distance, random)
    return distance


def _shape(lesion: Lesion, random: np.random.Generator) -> np.ndarray:
    """Radii for each angle up to a factor, float (721,)."""
    malignant = lesion.finding == "carcinoma"
    ratio = lesion.height_over_width * random.uniform(0.9, 1.1)
    angles = _ANGLES - random.normal(0, math.radians(8))
    radii = 1 / np.hypot(np.cos(angles), np.sin(angles) / ratio)
    orders = np.arange(2, 10 if malignant else 5)
    amplitudes = random.normal(0, lesion.roughness, len(orders)) / np.sqrt(orders - 1)
    phases = random.uniform(0, 2 * math.pi, len(orders))
    radii *= np.exp(np.sum(amplitudes[:, None] * np.cos(orders[:, None] * _ANGLES + phases[:, None]), axis=0))
    if malignant:
        for _ in range(random.integers(0, 6)):
            away = np.angle(np.exp(1j * (_ANGLES - random.uniform(-math.pi, math.pi))))
            radii *= 1 + random.uniform(0.12, 0.4) * np.exp(-((away / random.uniform(0.1, 0.25)) ** 2))
    return radii


def _add_calcifications(reflector: np.ndarray, distance: np.ndarray, random: np.random.Generator) -> None:
    """Some bright specks inside a lesion, in half of all."""
    if random.random() < 0.5:
        return
    rows, lines = np.nonzero(distance < -0.8)
    if len(rows):
        chosen = random.integers(0, len(rows), random.integers(2, 9))
        reflector[rows[chosen], lines[chosen]] += random.uniform(2, 5, len(chosen)).astype(np.float32)
