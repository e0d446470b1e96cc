"""Whether a DICOM file holds an image that can be decoded, within limits: told before anything is."""

import io
from typing import TYPE_CHECKING, BinaryIO

from ustoolkit.data.image_files import LARGEST_PIXELS
from ustoolkit.data.readers import dicom_apart
from ustoolkit.data.readers.clip_frames import MOST_FRAMES
from ustoolkit.data.readers.dicom_files import BIG_ENDIAN, EXPLICIT, IMPLICIT, integer
from ustoolkit.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_RUN_LENGTHS = "1.2.840.10008.1.2.5"
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")


def check_image(header: "Dataset", file: BinaryIO, place: str) -> int:
    """The number of frames of a file that holds an image whose pixels can be decoded.

    Args:
        header: its description.
        file: at the start of its pixels.
        place: what messages call it.
    Raises:
        DataError: it holds no image, or one that is too large, cut short, or of a kind that cannot be decoded.
    """
    kind = _kind(header)
    rows, columns = integer(header, "Rows"), integer(header, "Columns")
    if header.get("Modality") == "SEG":
        raise DataError(f"{place}: expected an image, found a segmentation. Export it as PNG masks.")
    if not rows or not columns or not file.read(1):
        raise DataError(f"{place}: expected an image, found none in it ({kind}). Leave it out.")
    file.seek(-1, io.SEEK_CUR)
    frames = integer(header, "NumberOfFrames") or 1
    if rows < 0 or columns < 0 or rows * columns > LARGEST_PIXELS:
        raise DataError(
            f"{place}: expected at most {LARGEST_PIXELS:,} pixels, found {columns} × {rows}. Export it smaller."
        )
    if not 1 <= frames <= MOST_FRAMES:
        raise DataError(f"{place}: expected 1 to {MOST_FRAMES:,} frames, found {frames:,}. Divide the clip.")
    smallest = 16 * frames  # a fragment's head and the least that a decoder takes
    if not decoder(header, place):
        bits = (integer(header, "BitsAllocated") or 8) * (integer(header, "SamplesPerPixel") or 1)
        if header.get("PhotometricInterpretation") == "YBR_FULL_422":
            bits = bits * 2 // 3
        smallest = rows * columns * frames * bits // 8
    here = file.tell()
    held = file.seek(0, io.SEEK_END) - here
    file.seek(here)
    if held < smallest:
        raise DataError(
            f"{place}: expected {frames:,} frames of {columns} × {rows} pixels, {smallest:,} bytes or more, found "
            f"{held:,}: the file is cut short, or its description is damaged. Export the file "
            "again, or leave it out."
        )
    return frames


def decoder(header: "Dataset", place: str) -> str:
    """What decodes a file's pixels: '' where they are stored as they are, else 'pydicom', 'pillow' or 'gdcm'.

    Raises:
        DataError: nothing does, or what does is not installed.
    """
    syntax = header.file_meta.TransferSyntaxUID
    if (syntax in _JPEG and (syntax == _JPEG[0] or integer(header, "BitsStored") <= 8)) or syntax in _JPEG_2000:
        return "pillow"
    if syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN, _RUN_LENGTHS):
        return "pydicom" if syntax == _RUN_LENGTHS else ""
    if syntax not in (*_JPEG, *_JPEG_LOSSLESS, *_JPEG_LS):
        raise DataError(
            f"{place}: pixels stored as '{syntax.name}' cannot be decoded. Export the file uncompressed, or a clip as "
            "a video."
        )
    if not dicom_apart.is_installed():
        raise DataError(
            f"{place}: pixels stored as '{syntax.name}' need a decoder that is not installed. Add it with 'pip install "
            "python-gdcm', or export the file uncompressed."
        )
    return "gdcm"


def _kind(header: "Dataset") -> str:
    from pydicom.uid import UID

    uid = header.get("SOPClassUID") or ""
    name = UID(str(uid)).name
    return name if name and name != uid else "no kind of object that is known"
