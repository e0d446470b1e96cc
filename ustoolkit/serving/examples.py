"""Phantoms to try a server on: drawn when it starts, kept in memory."""

from dataclasses import dataclass
from functools import cache

from ustoolkit.data.image_files import encode_png
from ustoolkit.data.phantom import phantom_samples

_COUNT, _SEED, _SIZE = 6, 11, (384, 448)


@dataclass(frozen=True)
class Example:
    """A phantom.

    Attributes:
        name: to choose it by.
        spacing_mm: distance of rows and of columns.
        png: its file.
    """

    name: str
    spacing_mm: tuple[float, float]
    png: bytes


@cache
def examples() -> tuple[Example, ...]:
    """Some phantoms, the same each time."""
    samples = phantom_samples(_COUNT, _SEED, _SIZE)
    return tuple(
        Example(f"Phantom {number}", sample.spacing_mm, encode_png(sample.image))
        for number, sample in enumerate(samples, 1)
        if sample.spacing_mm is not None
    )
