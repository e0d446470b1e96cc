"""DICOM files: found by their content, and opened within limits."""

import contextlib
import io
import logging
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from ustoolkit.data.file_tree import find_files
from ustoolkit.data.image_files import LARGEST_PIXELS
from ustoolkit.data.image_files import SUFFIXES as IMAGE_SUFFIXES
from ustoolkit.data.readers.annotation_files import first_bytes
from ustoolkit.data.readers.dicom_identity import IDENTIFYING
from ustoolkit.data.readers.video_file import SUFFIXES as VIDEO_SUFFIXES
from ustoolkit.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
LARGEST_INFLATED_BYTES = 3 * LARGEST_PIXELS
_LONGEST_TEXT = 64  # as long as DICOM lets such a word be
_REMEDY = "Export the file again, or leave it out."
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PALETTES = ("Red", "Green", "Blue", "Alpha")
_NEVER_DICOM = (
    IMAGE_SUFFIXES | VIDEO_SUFFIXES | {".csv", ".json", ".toml", ".txt", ".md", ".zip", ".gz", ".npy", ".nii"}
)


# Only these elements are read: others may hold raw data of hundreds of megabytes, and no business of ours.
_READ = (
    *IDENTIFYING,
    *("SOPClassUID", "Modality", "Manufacturer", "ManufacturerModelName", "TransducerData", "TransducerType"),
    *("FrameTime", "CineRate", "RecommendedDisplayFrameRate", "BurnedInAnnotation"),
    *("SequenceOfUltrasoundRegions", "SharedFunctionalGroupsSequence", "PixelSpacing", "ImagerPixelSpacing"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPresentation"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *(f"{colour}PaletteColorLookupTable{part}" for colour in _PALETTES for part in ("Descriptor", "Data")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _PALETTES),
)


class _AllBut(Collection[str]):
    """The suffixes that a DICOM file may have: any, such as '.5' of a file that is called after its UID."""

    def __contains__(self, suffix: object) -> bool:
        return suffix not in _NEVER_DICOM

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def find_dicoms(root: Path) -> list[Path]:
    """DICOM files anywhere under a folder, sorted: those that say so inside, and those of a DICOM suffix.

    An index (DICOMDIR) is none.
    """
    found = find_files(root, _AllBut())
    return [path for path in found if path.name.upper() != "DICOMDIR" and _is_dicom(path)]


def stem(name: str) -> str:
    """A file's name without a DICOM suffix; '1.2.840.5' has none."""
    path = Path(name)
    return path.stem if path.suffix.lower() in SUFFIXES else name


@contextlib.contextmanager
def open_dicom(path: Path, place: str) -> Iterator[tuple["Dataset", BinaryIO]]:
    """A DICOM file's description, and the file at the start of its pixels.

    Args:
        path: the file.
        place: what messages call it.
    Yields:
        the data set without pixels, its transfer syntax filled in where the file does not tell, and the file.
    Raises:
        DataError: it cannot be read as DICOM, or is beyond a limit; or what was done with it met damage.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        try:
            header, file = _read_header(stack.enter_context(path.open("rb")), place)
            yield header, file
        except DataError:
            raise
        except OSError as problem:
            raise DataError(f"{place}: the file cannot be read ({problem.strerror}). {_REMEDY}") from None
        except Exception as problem:
            # pydicom decodes values when they are asked for, and raises whatever damage leads to. Its words are not
            # passed on: they may hold what the file says of a person.
            raise DataError(f"{place}: the DICOM file is damaged ({type(problem).__name__}). {_REMEDY}") from None


def integer(header: "Dataset", keyword: str) -> int:
    """A number of the description; 0 where it does not say, or says no number."""
    value = header.get(keyword)
    try:
        return int(value) if value is not None else 0
    except (TypeError, ValueError, OverflowError):
        return 0


def text(header: "Dataset", keyword: str) -> str:
    """A word of the description, several in one line; '' where it does not say."""
    value = header.get(keyword)
    if value is None:
        return ""
    parts = [str(part).strip() for part in (value if hasattr(value, "append") else [value])]
    return " ".join(part for part in parts if part and part != "UNUSED")[:_LONGEST_TEXT]


def frame_rate(header: "Dataset") -> float:
    """Frames a second, 0 where the file does not say."""
    for keyword, per_second in (("FrameTime", False), ("CineRate", True), ("RecommendedDisplayFrameRate", True)):
        try:
            value = float(header.get(keyword) or 0)
        except (TypeError, ValueError):
            continue
        if 0 < value < 10_000:
            return round(value if per_second else 1000 / value, 3)
    return 0.0


def _read_header(file: BinaryIO, place: str) -> tuple["Dataset", BinaryIO]:
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    start = file.read(132)
    file.seek(0)
    if start[128:] == b"DICM":
        meta = pydicom.filereader.read_file_meta_info(file.name)
        if meta.get("TransferSyntaxUID") == _DEFLATED:
            file = _inflate(file, place)
    elif not _starts_with_element(start):
        raise DataError(f"{place}: expected DICOM, found something else. {_REMEDY}")
    header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_READ))
    if not hasattr(header, "file_meta"):
        header.file_meta = FileMetaDataset()
    if not header.file_meta.get("TransferSyntaxUID"):
        implicit, little = header.original_encoding
        header.file_meta.TransferSyntaxUID = UID(IMPLICIT if implicit else EXPLICIT if little else BIG_ENDIAN)
    return header, file


def _inflate(file: BinaryIO, place: str) -> BinaryIO:
    """A deflated file as an explicit one, unless it swells beyond a limit: pydicom itself would not stop."""
    import pydicom

    start = file.read(144)
    length = struct.unpack("<I", start[140:144])[0]  # of the group of meta information, which is never deflated
    meta = pydicom.filereader.read_file_meta_info(file.name)
    file.seek(144 + length)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(file.read(), LARGEST_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise DataError(
            f"{place}: expected at most {LARGEST_INFLATED_BYTES:,} bytes once inflated, found more. Divide the clip."
        )
    meta.TransferSyntaxUID = pydicom.uid.UID(EXPLICIT)
    plain = io.BytesIO()
    plain.write(start[:132])
    pydicom.filewriter.write_file_meta_info(pydicom.filebase.DicomFileLike(plain), meta, enforce_standard=False)
    plain.write(content)
    plain.seek(0)
    return plain


def _is_dicom(path: Path) -> bool:
    return first_bytes(path, 132)[128:] == b"DICM" or path.suffix.lower() in SUFFIXES


def _starts_with_element(start: bytes) -> bool:
    """Whether bytes may be the start of a data set that lacks the 128 bytes and the word before it."""
    if len(start) < 8:
        return False
    return any(struct.unpack(f"{order}H", start[:2])[0] in (2, 8) for order in "<>")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences pydicom, which reports much by the way; what matters is checked, and said in one line."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        logger.setLevel(level)
