"""One frame of a DICOM file to 8-bit grey or RGB."""

import io
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from ustoolkit.data.image_files import drop_equal_channels
from ustoolkit.data.readers.dicom_apart import coded_size, decode_apart
from ustoolkit.data.readers.dicom_checks import decoder
from ustoolkit.data.readers.dicom_files import integer
from ustoolkit.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_ALL_BUT_BLACK = 1 / 16  # of the range of values, where nothing says which part of it to show


def decode_frame(header: "Dataset", file: BinaryIO, frame: int, place: str) -> np.ndarray:
    """Decodes one frame as a viewer shows it: rescaled, windowed, its palette applied, colours as RGB.

    Args:
        header: the file's description.
        file: at the start of its pixels.
        frame: counted from 0.
        place: what messages call the frame.
    Returns:
        uint8 (height, width, 1) where all colours are grey, else (height, width, 3).
    Raises:
        DataError: the pixels are damaged, cut short, or of a kind that has no grey or colours.
    """
    photometric = header.get("PhotometricInterpretation")
    if photometric not in (*_GREY, *_COLOUR, "PALETTE COLOR"):
        raise DataError(
            f"{place}: expected pixels as grey, RGB, YBR or palette colours, found '{str(photometric)[:40]}'. Export "
            "the file as RGB."
        )
    plugin = decoder(header, place)
    try:
        stored = _stored_values(header, file, frame, plugin)
        if photometric == "PALETTE COLOR":
            return drop_equal_channels(_palette_colours(header, stored))
        if stored.ndim == 3:
            return drop_equal_channels(_eight_bit_colours(header, stored))
    except Exception as problem:  # decoders raise whatever damage leads to
        reason = (str(problem).strip() or type(problem).__name__).splitlines()[-1].strip()[:200]
        raise DataError(
            f"{place}: the pixels are damaged or cut short ({reason}). Export the file again, or leave it out."
        ) from None
    grey = _grey_levels(header, stored, place)
    return (255 - grey if photometric == "MONOCHROME1" else grey)[..., np.newaxis]


def _stored_values(header: "Dataset", file: BinaryIO, frame: int, plugin: str) -> np.ndarray:
    """Values (height, width) or RGB (height, width, 3)."""
    from pydicom.pixels import pixel_array

    expected = (integer(header, "Rows"), integer(header, "Columns"))
    if plugin == "gdcm":
        coded = coded_size(_code_stream(header, file, frame))
        if coded != expected:
            raise ValueError(f"the code stream holds {coded[1]} × {coded[0]} pixels")
        values = decode_apart(file.name, frame, _frames(header), _frame_bytes(header))
    else:
        rgb_already = plugin == "pillow" and _decodes_to_rgb(header, file, frame)
        syntax = header.file_meta.TransferSyntaxUID
        values = pixel_array(file, index=frame, raw=rgb_already, decoding_plugin=plugin, transfer_syntax_uid=syntax)
    if values.shape[:2] != expected or values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)):
        raise ValueError(f"expected {expected[1]} × {expected[0]} pixels, found an array of {values.shape}")
    return values


def _decodes_to_rgb(header: "Dataset", file: BinaryIO, frame: int) -> bool:
    """Whether the code stream itself makes its decoder return RGB, whatever the description calls the colours.

    Pillow obeys Adobe's marker in JPEG and the component transform in JPEG 2000; pydicom would then convert again.
    """
    code = _code_stream(header, file, frame)
    with Image.open(io.BytesIO(code), formats=("JPEG", "JPEG2000")) as image:
        if image.size != (integer(header, "Columns"), integer(header, "Rows")):
            raise ValueError(f"the code stream holds {image.size[0]} × {image.size[1]} pixels")
        if image.format == "JPEG":
            return "adobe_transform" in image.info
    style = code.find(b"\xff\x52", 0, max(0, code.find(b"\xff\x90")))  # coding style, before the first tile
    return style >= 0 and code[style + 8] == 1


def _code_stream(header: "Dataset", file: BinaryIO, frame: int) -> bytes:
    """A frame as it was encoded."""
    from pydicom.encaps import get_frame

    start = file.tell()
    file.seek(start + 12)  # tag, type and length of the pixel data
    code = get_frame(file, frame, number_of_frames=_frames(header))
    file.seek(start)
    return code


def _frames(header: "Dataset") -> int:
    return integer(header, "NumberOfFrames") or 1


def _frame_bytes(header: "Dataset") -> int:
    """Size of a decoded frame, no larger than any image that is read."""
    pixels = integer(header, "Rows") * integer(header, "Columns")
    samples, bits = integer(header, "SamplesPerPixel"), integer(header, "BitsAllocated")
    return pixels * (3 if samples == 3 else 1) * (1 if bits == 8 else 2)


def _palette_colours(header: "Dataset", indices: np.ndarray) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    colours = apply_color_lut(indices, header)[..., :3]
    if colours.dtype == np.uint8:
        return colours
    entries, first, _ = header.RedPaletteColorLookupTableDescriptor
    entries = entries or 65536
    table = apply_color_lut(np.arange(first, first + entries).astype(indices.dtype), header)
    holds_8_bits = table.max() < 256  # some write 8-bit colours and call them 16-bit ones
    return (colours if holds_8_bits else colours >> 8).astype(np.uint8)


def _eight_bit_colours(header: "Dataset", colours: np.ndarray) -> np.ndarray:
    if colours.dtype == np.uint8:
        return colours
    bits = integer(header, "BitsStored")
    return (colours >> max(0, bits - 8)).clip(0, 255).astype(np.uint8)


def _grey_levels(header: "Dataset", stored: np.ndarray, place: str) -> np.ndarray:
    """Stored values through modality and window to 0 … 255."""
    from pydicom.pixels import apply_modality_lut, apply_voi

    try:
        values = apply_modality_lut(stored, header)
        if "VOILUTSequence" in header:
            table = header.VOILUTSequence[0]
            shown = apply_voi(values.astype(stored.dtype), header).astype(float) / (2 ** table.LUTDescriptor[2] - 1)
            return _to_bytes(shown)
        window = _window(header)
        if window:
            return _to_bytes(_windowed(values.astype(float), *window, str(header.get("VOILUTFunction") or "LINEAR")))
        low, high = (float(value) for value in apply_modality_lut(_stored_range(header, stored.dtype), header))
    except Exception as problem:
        raise DataError(
            f"{place}: what the file says of its grey levels is damaged ({type(problem).__name__}). Export it again."
        ) from None
    if low > high:
        low, high = high, low
    shown = (values - low) / max(high - low, 1e-9)
    if stored.dtype.itemsize > 1 and 0 < shown.max() < _ALL_BUT_BLACK:
        raise DataError(
            f"{place}: expected a window, or values up to {high:g}, found none above {values.max():g}, which would be "
            "all but black. Export the file with a window, or with 8 bit."
        )
    return _to_bytes(shown)


def _stored_range(header: "Dataset", dtype: np.dtype) -> np.ndarray:
    """The least and the largest value that a pixel can have."""
    bits = integer(header, "BitsStored") or 8 * dtype.itemsize
    signed = np.issubdtype(dtype, np.signedinteger)
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return np.array(ends).astype(dtype)


def _window(header: "Dataset") -> tuple[float, float] | None:
    """Centre and width of the first window, None where there is none."""
    values = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = header.get(keyword)
        if value is None or value == "":
            return None
        values.append(float(value if isinstance(value, str | float | int) else value[0]))
    centre, width = values
    return (centre, width) if np.isfinite(values).all() and width >= 1 else None


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Shares of full brightness, by the formulas of DICOM PS3.3 C.11.2.1."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    return (values > centre - 0.5).astype(float) if width == 1 else (values - (centre - 0.5)) / (width - 1) + 0.5


def _to_bytes(shares: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8)
