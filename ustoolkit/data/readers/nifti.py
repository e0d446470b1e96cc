"""NIfTI files as pictures and masks: one slice, or each of a volume, in the orientation that nnU-Net reads."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.data.image_files import LARGEST_PIXELS, to_eight_bits
from ustoolkit.errors import DataError

SUFFIXES = (".nii.gz", ".nii")
_LARGEST_VOLUME_BYTES = 4_000_000_000
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
_REMEDY = "Export it again, or leave it out."


@dataclass(frozen=True)
class Volume:
    """What a file's header tells.

    Attributes:
        slices: how many there are.
        height, width: pixels.
        spacing_mm: (row, column), or None where not told.
    """

    slices: int
    height: int
    width: int
    spacing_mm: tuple[float, float] | None


def read_volume(path: Path) -> Volume:
    """Reads the header.

    Raises:
        DataError: missing, damaged, of another number of dimensions, of colours, or too large.
    """
    return _describe(_load(path), path)


def read_nifti_picture(path: Path, number: int) -> np.ndarray:
    """A slice as an image.

    Args:
        path: the file.
        number: of the slice, from 0.
    Returns:
        uint8 (height, width, 1): 8-bit values as they are, 16-bit ones over their full range.
    Raises:
        DataError: damaged, or the volume's values are not whole numbers from 0 to 65535.
    """
    stored = _load(path)
    plane = _plane(stored, path, number)
    if stored.get_data_dtype() == np.uint8 and _is_unscaled(stored):
        return plane[..., np.newaxis].astype(np.uint8)
    return to_eight_bits(_values(stored, path), path)[_slice(stored, number)].T[..., np.newaxis].copy()


def read_nifti_mask(path: Path, number: int, num_classes: int) -> np.ndarray:
    """A slice of class indices.

    Args:
        path: the file.
        number: of the slice, from 0.
        num_classes: the background included.
    Returns:
        uint8 (height, width) with values below `num_classes`.
    Raises:
        DataError: damaged, or a value is no class.
    """
    plane = _plane(_load(path), path, number)
    found = np.unique(plane)  # NaN too is none of the classes
    if not np.isin(found, np.arange(num_classes)).all():
        shown = ", ".join(f"{value:g}" for value in found[:8]) + (", …" if len(found) > 8 else "")
        raise DataError(
            f"{path}: expected the class indices 0 to {num_classes - 1}, found {shown}. Correct the mask, or "
            "the labels in dataset.json."
        )
    return plane.astype(np.uint8)


def _load(path: Path) -> Any:
    import nibabel  # here, since it takes half a second, and few data sets need it

    if not path.is_file():
        raise DataError(f"{path}: no such file. Add it, or leave its case out.")
    with _damage_named(path):
        return nibabel.load(path)


def _describe(stored: Any, path: Path) -> Volume:
    shape, dtype = tuple(int(side) for side in stored.shape), stored.get_data_dtype()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise DataError(
            f"{path}: expected a picture or a volume, found {' × '.join(map(str, stored.shape))}. {_REMEDY}"
        )
    if dtype.kind not in "uif":
        raise DataError(f"{path}: expected one number for each pixel, found {dtype}. Save it as a grey image.")
    size = math.prod(shape) * dtype.itemsize
    if shape[0] * shape[1] > LARGEST_PIXELS or size > _LARGEST_VOLUME_BYTES:
        raise DataError(f"{path}: expected at most {_LARGEST_VOLUME_BYTES:,} bytes, found {size:,}. Divide the volume.")
    return Volume(shape[2] if len(shape) == 3 else 1, shape[1], shape[0], _spacing(stored))


def _spacing(stored: Any) -> tuple[float, float] | None:
    """Row and column distance; None for none, or for the 1 that stands where nobody told."""
    try:
        unit = stored.header.get_xyzt_units()[0]
        column, row = (float(side) * _MILLIMETRES.get(unit, 1.0) for side in stored.header.get_zooms()[:2])
    except (AttributeError, KeyError, ValueError):
        return None
    if (unit == "unknown" and row == column == 1.0) or not (0 < row < 100 and 0 < column < 100):
        return None
    return row, column


def _slice(stored: Any, number: int) -> tuple[Any, ...]:
    return (slice(None), slice(None), *((number,) if len(stored.shape) > 2 else ()), *(0 for _ in stored.shape[3:]))


def _plane(stored: Any, path: Path, number: int) -> np.ndarray:
    """(height, width): NIfTI's first axis runs along a row."""
    _describe(stored, path)
    with _damage_named(path):
        return np.asarray(stored.dataobj[_slice(stored, number)]).T


def _values(stored: Any, path: Path) -> np.ndarray:
    with _damage_named(path):
        return np.asarray(stored.dataobj)


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as problem:  # nibabel raises its own errors, OSError, ValueError, EOFError, zlib.error, …
        reason = str(problem).partition("\n")[0][:120]
        raise DataError(f"{path}: the file is no NIfTI, or damaged ({reason}). {_REMEDY}") from None


def _is_unscaled(stored: Any) -> bool:
    slope, intercept = getattr(stored.dataobj, "slope", 1.0), getattr(stored.dataobj, "inter", 0.0)
    return slope == 1.0 and intercept == 0.0
