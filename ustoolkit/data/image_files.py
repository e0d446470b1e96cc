"""Image and mask files to arrays and back, by Pillow. What a file is, its content tells, not its name."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ustoolkit.data.file_tree import find_files
from ustoolkit.data.mask_values import Colours, class_indices
from ustoolkit.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
_DARKEST_16_BIT = 4096  # a 16-bit image without a brighter value holds 8, 10 or 12 bits, unscaled
LARGEST_PIXELS = 64_000_000  # a decoded image; beyond it a file is taken for a decompression bomb
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "PPM", "TIFF")  # some of Pillow's others start programs
_REMEDY = "Export the image again, or leave it out."


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image, turned upright.

    Attributes:
        pixels: uint8 (height, width, 1) where all colours are grey, else (height, width, 3).
        orientation: EXIF's, 1 to 8, by which the stored pixels were turned; 1 for not at all.
    """

    pixels: np.ndarray
    orientation: int = 1

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width before turning."""
        height, width = self.pixels.shape[:2]
        return (width, height) if self.orientation >= 5 else (height, width)


def read_picture(path: Path | str, content: bytes | None = None) -> Picture:
    """Decodes an image file, turned upright as its EXIF orientation says.

    Args:
        path: PNG, JPEG, BMP or TIFF; 8 or 16 bit, grey, palette or colour, transparency ignored.
        content: the file's bytes, where they lie elsewhere; `path` is then only a name for messages.
    Raises:
        DataError: the file is missing, no image, cut short, or larger than `LARGEST_PIXELS`.
    """
    opened = _open(Path(path), content)
    image, orientation = opened.image, opened.orientation
    with _damage_named(path):
        if image.mode.startswith("I") or image.mode == "F":
            values = to_eight_bits(np.asarray(image), path, sixteen=image.mode.startswith("I;16"))
            return Picture(values[..., np.newaxis], orientation)
        if image.mode in ("1", "L", "LA"):
            return Picture(np.asarray(image.convert("L"))[..., np.newaxis], orientation)
        return Picture(drop_equal_channels(np.asarray(image.convert("RGB"))), orientation)


def read_image(path: Path | str) -> np.ndarray:
    """The pixels of `read_picture`: uint8 (height, width, 1 or 3)."""
    return read_picture(path).pixels


def drop_equal_channels(pixels: np.ndarray) -> np.ndarray:
    """uint8 (height, width, 3) as (height, width, 1) where all its colours are grey."""
    grey = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    return np.ascontiguousarray(pixels[..., :1]) if grey else pixels


def turn_upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Turns pixels that were stored under an EXIF orientation (1 to 8), such as a mask drawn on the stored image.

    Args:
        stored: (height, width, ...).
    Returns:
        (height, width, ...), or (width, height, ...) for 5 to 8.
    """
    turns = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
    quarters, mirrored = turns.get(orientation, (0, False))
    turned = np.rot90(stored, quarters)  # anticlockwise
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def read_mask(path: Path | str, num_classes: int = 2, colours: Colours = ()) -> np.ndarray:
    """Decodes a mask file to class indices.

    Grey values, or indices of a palette whose first colour is black, are class indices. With two classes, black and
    one light grey (128 or more, 255 mostly) or one colour become 0 and 1, and a grey JPEG that was black and white is
    cut at 128. Of a palette of greys the greys count. Transparency is ignored; a mask that lies in it alone is refused.

    Args:
        path: the mask file.
        num_classes: how many classes there are, the background included.
        colours: the class of each colour, which must then hold all colours but black; see `colour_table`.
    Returns:
        uint8 (height, width) with values below `num_classes`.
    Raises:
        DataError: not a readable image, or its values are no classes.
    """
    opened = _open(Path(path))
    with _damage_named(path):
        return class_indices(opened.image, path, num_classes, colours, lossy=opened.format in ("JPEG", "MPO"))


def encode_png(pixels: np.ndarray) -> bytes:
    """Compresses uint8 (height, width[, 1 or 3]) to PNG, without loss."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def decode_png(content: bytes) -> np.ndarray:
    """The pixels of `encode_png`: uint8 (height, width) or (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(content)))


def find_images(folder: Path) -> list[Path]:
    """Image files anywhere under a folder, by suffix, sorted; see `find_files`."""
    return find_files(folder, SUFFIXES)


@dataclass(frozen=True, eq=False)
class _Opened:
    image: Image.Image  # turned upright
    orientation: int  # EXIF's, that it was stored under
    format: str


def _open(path: Path, content: bytes | None = None) -> _Opened:
    if content is None and path.exists() and not path.is_file():  # a pipe would wait for ever
        raise DataError(f"{path}: expected an image, found no file but a folder or device. {_REMEDY}")
    with _damage_named(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata, and of size, which is checked below
        with Image.open(path if content is None else io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > LARGEST_PIXELS:
                raise DataError(
                    f"{path}: expected at most {LARGEST_PIXELS:,} pixels, found {image.width} × {image.height}. "
                    "Make the image smaller."
                )
            image.load()
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            turned = ImageOps.exif_transpose(image)
            return _Opened(turned, orientation if orientation in range(2, 9) else 1, image.format or "")


@contextlib.contextmanager
def _damage_named(path: Path | str) -> Iterator[None]:
    """Whatever a decoder throws becomes a message with the file's name."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Check the path.") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: expected an image, found something else. {_REMEDY}") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: expected at most {LARGEST_PIXELS:,} pixels, found more. Make it smaller.") from None
    except Exception as problem:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise DataError(f"{path}: the image is damaged or cut short ({problem}). {_REMEDY}") from None


def to_eight_bits(values: np.ndarray, path: Path | str, sixteen: bool = False) -> np.ndarray:
    """16-bit values over their full range, or 8-bit ones in a wider type, as uint8.

    Args:
        values: of any shape and type of number.
        path: for the message.
        sixteen: whether the file says that it holds 16 bits, however small the values.
    Raises:
        DataError: negative, fractions, no numbers, above 65535, or 16 bits of which only the lowest are used.
    """
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 65535):  # NaN too is neither
        raise DataError(f"{path}: expected 8- or 16-bit values, found {low} to {high}. Convert it.")
    if (values != np.round(values)).any():
        raise DataError(f"{path}: expected whole numbers up to 65535, found fractions. Convert it to 8 or 16 bit.")
    if high < 256 and not sixteen:
        return values.astype(np.uint8)
    if 0 < high < _DARKEST_16_BIT:
        raise DataError(
            f"{path}: expected 16-bit values up to 65535, found none above {high}, which would be all but black. "
            "Scale the values to the full range, or save the image with 8 bit."
        )
    return np.round(values / 257.0).astype(np.uint8)
