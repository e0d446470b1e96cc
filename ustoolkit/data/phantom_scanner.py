"""The simulated devices that phantoms are scanned with: invented names, ordinary breast-imaging settings."""

import math
from dataclasses import dataclass

SPEED_OF_SOUND_MM_PER_US = 1.54
FULL_WIDTH_PER_SIGMA = 2.355  # of a Gaussian, at half height


@dataclass(frozen=True)
class Scanner:
    """A simulated device.

    Attributes:
        name: what stands on its frame.
        frequency_mhz: centre frequency of the transmitted pulse.
        bandwidth: two-way -6 dB bandwidth as a fraction of the centre frequency.
        f_number: focal depth over aperture; the beam's width at the focus is proportional to it.
        depths_mm: smallest and largest imaging depth.
        dynamic_range_db: what is shown between black and white.
        white_db: echo level, relative to glandular tissue at the surface, that is shown white.
        penetration_mm: depth at which electronic noise is as strong as the echo of glandular tissue.
        looks: independent speckle patterns averaged (angular compounding).
        line_pitch_mm: distance between neighbouring scan lines.
    """

    name: str
    frequency_mhz: float
    bandwidth: float
    f_number: float
    depths_mm: tuple[float, float]
    dynamic_range_db: float
    white_db: float
    penetration_mm: float
    looks: int
    line_pitch_mm: float

    @property
    def wavelength_mm(self) -> float:
        """Wavelength at the centre frequency."""
        return SPEED_OF_SOUND_MM_PER_US / self.frequency_mhz

    @property
    def spectral_sigma_mhz(self) -> float:
        """Standard deviation of the Gaussian pulse's amplitude spectrum."""
        return self.bandwidth * self.frequency_mhz / FULL_WIDTH_PER_SIGMA

    @property
    def axial_sigma_mm(self) -> float:
        """Standard deviation of the pulse's envelope along depth (half the pulse length: there and back)."""
        return SPEED_OF_SOUND_MM_PER_US / (4 * math.pi * self.spectral_sigma_mhz)


SCANNERS = (
    Scanner("Sonoglyph A6", 6.5, 0.45, 3.2, (40, 60), 60, 27, 80, looks=1, line_pitch_mm=0.24),
    Scanner("Echomira 9", 9.0, 0.42, 3.8, (32, 50), 50, 22, 62, looks=1, line_pitch_mm=0.20),
    Scanner("Lumasonic 11C", 11.0, 0.40, 4.4, (30, 42), 58, 30, 54, looks=2, line_pitch_mm=0.20),
)
