"""Image and mask files to arrays and back, by Pillow. What a file is, its content tells, not its name."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ustoolkit.data.file_tree import find_files
from ustoolkit.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
_DARKEST_16_BIT = 4096  # a 16-bit image without a brighter value holds 8, 10 or 12 bits, unscaled
_LIGHT = 128  # the darkest grey that a black and white mask may have for white
LARGEST_PIXELS = 64_000_000  # a decoded image; beyond it a file is taken for a decompression bomb


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
    image, orientation = _open(Path(path), content)
    if image.mode.startswith("I") or image.mode == "F":
        return Picture(_eight_bits(image, Path(path))[..., np.newaxis], orientation)
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


def read_mask(path: Path | str, num_classes: int = 2) -> np.ndarray:
    """Decodes a mask file to class indices.

    With two classes, masks of black and one light grey (128 or more, 255 mostly) become 0 and 1; other masks hold
    class indices, as grey values or as indices of a palette whose first colour is black. Of a palette of greys the
    greys count.

    Args:
        path: the mask file.
        num_classes: how many classes there are, the background included.
    Returns:
        uint8 (height, width) with values below `num_classes`.
    Raises:
        DataError: not a readable image, or its values are no class indices.
    """
    path = Path(path)
    image, _ = _open(path)
    if image.mode in ("1", "L") or _is_indexed(image):
        values = np.asarray(image).astype(np.uint8)
    elif image.mode.startswith("I"):
        values = np.asarray(image)
    else:
        channels = np.asarray(image.convert("RGB"))
        if (channels != channels[..., :1]).any():
            raise DataError(
                f"{path}: expected a mask of one channel, found colours. "
                f"Save it as a grey image of values 0 (background) to {num_classes - 1}, or 0 and 255."
            )
        values = channels[..., 0]
    found = np.unique(values)
    if found[-1] < num_classes and found[0] >= 0:
        return values.astype(np.uint8)
    if len(found) <= 2 and found[0] == 0 and found[-1] >= _LIGHT and num_classes == 2:
        return (values > 0).astype(np.uint8)
    if len(found) == 1 and num_classes == 2 and found[0] == 255:
        return np.ones(values.shape, np.uint8)
    shown = ", ".join(str(value) for value in found[:8]) + (", …" if len(found) > 8 else "")
    raise DataError(
        f"{path}: expected a mask with values 0 to {num_classes - 1}, or 0 and 255, found {shown}. "
        "Save masks as PNG (JPEG blurs their edges), or list all classes in the data set's description."
    )


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


def _open(path: Path, content: bytes | None = None) -> tuple[Image.Image, int]:
    """The image turned upright, and the EXIF orientation that it was stored under."""
    remedy = "Export the image again, or leave it out."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, and of size, which is checked below
            with Image.open(path if content is None else io.BytesIO(content)) as image:
                if image.width * image.height > LARGEST_PIXELS:
                    raise DataError(
                        f"{path}: expected at most {LARGEST_PIXELS:,} pixels, found {image.width} × {image.height}. "
                        "Make the image smaller."
                    )
                image.load()
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
                turned = ImageOps.exif_transpose(image)
                return turned, orientation if orientation in range(2, 9) else 1
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Check the path.") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: expected an image, found something else. {remedy}") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: expected at most {LARGEST_PIXELS:,} pixels, found more. Make it smaller.") from None
    except Exception as problem:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise DataError(f"{path}: the image is damaged or cut short ({problem}). {remedy}") from None


def _is_indexed(image: Image.Image) -> bool:
    """Whether a palette holds class colours, black for the background, and not just greys in any order."""
    if image.mode != "P":
        return False
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = colours[[index for index in np.unique(np.asarray(image)) if index < len(colours)]]
    return bool((used != used[:, :1]).any() and not colours[0].any())


def _eight_bits(image: Image.Image, path: Path) -> np.ndarray:
    """16-bit values over their full range, or 8-bit ones in a wider type."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 65535):  # NaN too is neither
        raise DataError(f"{path}: expected 8- or 16-bit values, found {low} to {high}. Convert it.")
    if (values != np.round(values)).any():
        raise DataError(f"{path}: expected whole numbers up to 65535, found fractions. Convert it to 8 or 16 bit.")
    if high < 256 and not image.mode.startswith("I;16"):
        return values.astype(np.uint8)
    if 0 < high < _DARKEST_16_BIT:
        raise DataError(
            f"{path}: expected 16-bit values up to 65535, found none above {high}, which would be all but black. "
            "Scale the values to the full range, or save the image with 8 bit."
        )
    return np.round(values / 257.0).astype(np.uint8)
