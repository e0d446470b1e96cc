"""What an image file says of itself, looked at before anything of it is decoded."""

import io
from collections.abc import Sequence

from PIL import Image, UnidentifiedImageError

from ustoolkit.serving.refusal import Refusal

_MOST_SCANS = 64  # of a progressive JPEG; each costs as much time as the whole image, and is small to send
_START_OF_SCAN = b"\xff\xda"
LONGEST_SIDE = 20_000
_BIT_DEPTH = 24  # where a PNG has it, in the header that comes first


def image_size(content: bytes, formats: Sequence[str], largest_pixels: int, place: str) -> tuple[int, int, str]:
    """Height, width and format of an image file, by its header.

    Args:
        content: the file's bytes.
        formats: Pillow's names of those that are taken.
        largest_pixels: that it may have.
        place: what messages call it.
    Raises:
        Refusal: it is of another format, its header is damaged, or it is too large; 415, 400 and 413.
    """
    named = ", ".join(formats)
    try:
        with Image.open(io.BytesIO(content), formats=tuple(formats)) as image:
            width, height, kind = image.width, image.height, str(image.format)
    except UnidentifiedImageError:
        raise Refusal(
            415, f"{place}: expected an image as {named}, found something else. Send the bytes of such a file."
        ) from None
    except Image.DecompressionBombError:
        raise too_large(place, largest_pixels, "far more") from None
    except Exception:  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error, …
        raise Refusal(400, f"{place}: the image is damaged or cut short. Export it again.") from None
    if width < 1 or height < 1:
        raise Refusal(400, f"{place}: expected an image, found one of {width} × {height} pixels. Export it again.")
    if width * height > largest_pixels or max(width, height) > LONGEST_SIDE:
        raise too_large(place, largest_pixels, f"{width} × {height}")
    if kind in ("JPEG", "MPO") and content.count(_START_OF_SCAN) > _MOST_SCANS:
        raise Refusal(
            413, f"{place}: expected a JPEG of up to {_MOST_SCANS} scans, found more. Save it as a plain JPEG or PNG."
        )
    return height, width, kind


def check_eight_bits(content: bytes, kind: str, place: str) -> None:
    """Refuses a PNG of 16 bits: TensorFlow would keep its upper eight, of which 12-bit images use four.

    Args:
        content: the file's bytes.
        kind: its format, as `image_size` found it.
        place: what messages call it.
    Raises:
        Refusal: 400.
    """
    if kind == "PNG" and content[_BIT_DEPTH : _BIT_DEPTH + 1] == b"\x10":
        raise Refusal(
            400,
            f"{place}: expected a PNG of 8 bits or fewer, found one of 16 bits, which could come out all but black. "
            "Scale its values to 0 to 255 and save it with 8 bits.",
        )


def too_large(place: str, largest_pixels: int, found: str) -> Refusal:
    """The refusal of an image that has too many pixels.

    Args:
        place: what messages call it.
        largest_pixels: that it may have.
        found: how many it has, in words.
    """
    return Refusal(
        413,
        f"{place}: expected at most {largest_pixels:,} pixels, and {LONGEST_SIDE:,} on a side, found {found}. Make "
        "the image smaller.",
    )
