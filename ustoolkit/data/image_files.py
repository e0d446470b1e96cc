"""Image and mask files to arrays and back, by Pillow. What a file is, its content tells, not its name."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ustoolkit.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
LARGEST_PIXELS = 64_000_000  # a decoded image; beyond it a file is taken for a decompression bomb


def read_image(path: Path | str) -> np.ndarray:
    """Decodes an image file, turned upright as its EXIF orientation says.

    Args:
        path: PNG, JPEG, BMP or TIFF; 8 or 16 bit, grey, palette or colour, transparency ignored.
    Returns:
        uint8 (height, width, 1) where all colours are grey, else (height, width, 3).
    Raises:
        DataError: the file is missing, no image, cut short, or larger than `LARGEST_PIXELS`.
    """
    image = _open(Path(path))
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(np.asarray(image), Path(path))[..., np.newaxis]
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))[..., np.newaxis]
    pixels = np.asarray(image.convert("RGB"))
    grey = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    return np.ascontiguousarray(pixels[..., :1]) if grey else pixels


def read_mask(path: Path | str, num_classes: int = 2) -> np.ndarray:
    """Decodes a mask file to class indices.

    Masks of two values, such as 0/255 or 1-bit, become 0 and 1; other masks hold class indices (palette or grey).

    Args:
        path: the mask file.
        num_classes: how many classes there are, the background included.
    Returns:
        uint8 (height, width) with values below `num_classes`.
    Raises:
        DataError: not a readable image, or its values are no class indices.
    """
    path = Path(path)
    image = _open(path)
    if image.mode in ("1", "L", "P"):
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
    if len(found) <= 2 and found[0] == 0 and num_classes == 2:
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
    """Image files anywhere under a folder, by suffix, sorted; hidden files and folders are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts))


def _open(path: Path) -> Image.Image:
    remedy = "Export the image again, or leave it out."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, and of size, which is checked below
            with Image.open(path) as image:
                if image.width * image.height > LARGEST_PIXELS:
                    raise DataError(
                        f"{path}: expected at most {LARGEST_PIXELS:,} pixels, found {image.width} × {image.height}. "
                        "Make the image smaller."
                    )
                image.load()
                return ImageOps.exif_transpose(image)
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


def _eight_bits(values: np.ndarray, path: Path) -> np.ndarray:
    if not (values.min() >= 0 and values.max() <= 65535):  # NaN too is neither
        raise DataError(f"{path}: expected 8- or 16-bit values, found {values.min()} to {values.max()}. Convert it.")
    if (values != np.round(values)).any():
        raise DataError(f"{path}: expected whole numbers up to 65535, found fractions. Convert it to 8 or 16 bit.")
    return values.astype(np.uint8) if values.max() < 256 else np.round(values / 257.0).astype(np.uint8)
