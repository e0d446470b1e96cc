"""One image file that was sent: read within limits, by its content alone."""

import contextlib
import io
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ustoolkit.data.image_files import read_picture
from ustoolkit.data.readers.dicom_checks import check_image
from ustoolkit.data.readers.dicom_files import integer, open_dicom, text
from ustoolkit.data.readers.dicom_geometry import pixel_spacing, ultrasound_regions
from ustoolkit.data.readers.dicom_pixels import decode_frame
from ustoolkit.errors import DataError
from ustoolkit.serving.image_headers import LONGEST_SIDE, image_size, too_large
from ustoolkit.serving.refusal import Refusal

_PLACE = "the file"
_MEMORY = Path("/dev/shm")  # a file system in memory, on Linux
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_LARGEST_SPACING_MM = 100
_FIRST_OF_CLIP = "The file holds several frames: this is the first."
_BURNED_IN = "The file says that text is drawn into its picture, which may name the patient. It is left in."
# What silences warnings, in the readers, holds for the whole process and is put back after.
_one_at_a_time = threading.Lock()
_on_disk: set[str] = set()  # folders that hold a file which was sent


@dataclass(frozen=True, eq=False)
class Upload:
    """An image as it was read.

    Attributes:
        pixels: uint8 (height, width, 1 or 3).
        spacing_mm: distance of rows and of columns, None where it is not known.
        warnings: what a user should know of how it was read.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None
    warnings: list[str] = field(default_factory=list)


def read_upload(content: bytes | bytearray, largest_pixels: int) -> Upload:
    """Reads an image file.

    Args:
        content: of a PNG, JPEG, BMP, TIFF or DICOM file.
        largest_pixels: that it may have.
    Raises:
        Refusal: it is none of these, damaged, or too large.
    """
    content = bytes(content)
    if not content:
        raise Refusal(400, f"{_PLACE}: expected an image file's bytes as the body, found none. Send them.")
    with _one_at_a_time:
        try:
            if content[128:132] == b"DICM":
                return _read_dicom(content, largest_pixels)
            return _read_picture(content, largest_pixels)
        except DataError as problem:
            raise Refusal(400, str(problem)) from None
        except MemoryError:
            raise Refusal(413, f"{_PLACE}: expected an image that fits in memory. Make it smaller.") from None


def read_spacing(value: str) -> tuple[float, float]:
    """The distance of rows and of columns that an address gives, as '0.1' or '0.1,0.08'.

    Returns:
        millimetres.
    Raises:
        Refusal: it is not one or two numbers above 0.
    """
    parts = value.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(
        math.isfinite(number) and 0 < number <= _LARGEST_SPACING_MM for number in numbers
    ):
        raise Refusal(
            400,
            "spacing_mm: expected the distance of pixels in mm, one number for both directions or 'row,column', above "
            f"0 and up to {_LARGEST_SPACING_MM}, found something else. Correct it, or leave it out.",
        )
    return numbers[0], numbers[-1]


def _read_picture(content: bytes, largest_pixels: int) -> Upload:
    _, _, kind = image_size(content, _FORMATS, largest_pixels, _PLACE)
    pixels = read_picture(_PLACE, content).pixels
    return Upload(pixels, None, [_FIRST_OF_CLIP] if kind == "TIFF" and _has_second_page(content) else [])


def _has_second_page(content: bytes) -> bool:
    """Whether a TIFF has more pages, without counting them: a file may chain millions."""
    try:
        with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
            image.seek(1)
    except Exception:  # no other page, or one that is damaged, which concerns nobody
        return False
    return True


def _read_dicom(content: bytes, largest_pixels: int) -> Upload:
    warnings: list[str] = []
    with _as_file(content) as path, open_dicom(path, _PLACE) as (header, file):
        height, width = integer(header, "Rows"), integer(header, "Columns")
        small = height * width <= largest_pixels and max(height, width) <= LONGEST_SIDE
        if small:
            if check_image(header, file, _PLACE) > 1:
                warnings.append(_FIRST_OF_CLIP)
            pixels = decode_frame(header, file, 0, _PLACE)
            spacing = pixel_spacing(header, ultrasound_regions(header), *pixels.shape[:2])
            if text(header, "BurnedInAnnotation").upper() == "YES":
                warnings.append(_BURNED_IN)
    if not small:  # said here, since what is raised within counts as damage
        raise too_large(_PLACE, largest_pixels, f"{width} × {height}")
    return Upload(pixels, spacing, warnings)


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[Path]:
    """A path to bytes, for readers that need one: of its owner alone, gone after, and in memory where there is room."""
    in_memory = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 2 * len(content)
    with tempfile.TemporaryDirectory(prefix="ustoolkit-", dir=_MEMORY if in_memory else None) as folder:
        _on_disk.add(folder)
        try:
            path = Path(folder) / "upload"
            path.write_bytes(content)
            yield path
        finally:
            _on_disk.discard(folder)


def discard_files() -> None:
    """Removes what was sent and is being read: for a process that ends at once."""
    for folder in list(_on_disk):
        shutil.rmtree(folder, ignore_errors=True)
