"""What the values of a mask file mean: class indices, black and white, or colours."""

from pathlib import Path

import numpy as np
from PIL import Image

from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

Colour = tuple[int, int, int]
Colours = tuple[tuple[Colour, int], ...]  # red, green, blue, and the class index
_LIGHT = 128  # the darkest grey that a black and white mask may have for white
_NEAR = 64  # how far JPEG moves a pixel of a black and white mask from its end of the scale
_MOST_BETWEEN = 0.05  # of the pixels: so many a blurred edge may leave between the ends
_LISTED = 6


def colour_table(settings: DataSetSettings) -> Colours:
    """The description's colours, each with its class index.

    Raises:
        DataError: two classes have one colour.
    """
    table: dict[Colour, str] = {}
    for name, colour in settings.colours.items():
        if table.setdefault(colour, name) != name:
            raise DataError(
                f"[colours]: expected a colour for each class, found {_spelled(colour)} for both '{table[colour]}' and "
                f"'{name}'. Correct one in the data set's description."
            )
    return tuple((colour, settings.classes.index(name)) for colour, name in table.items())


def class_indices(
    image: Image.Image, path: Path | str, num_classes: int, colours: Colours = (), lossy: bool = False
) -> np.ndarray:
    """The classes of a decoded mask; see `ustoolkit.data.image_files.read_mask` for the rules.

    Args:
        image: of any mode.
        path: for messages.
        num_classes: the background included.
        colours: what each colour means.
        lossy: whether the file was a JPEG, which blurs edges.
    Returns:
        uint8 (height, width) with values below `num_classes`.
    Raises:
        DataError: the values are no classes.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _by_value(_whole(np.asarray(image), path), path, num_classes, lossy=False)
    rgb = _without_alpha(image, path)
    coloured = bool((rgb != rgb[..., :1]).any())
    if colours:
        mask, unknown = _by_table(rgb, colours)
        if not unknown:
            return mask
        if coloured:
            raise DataError(f"{path}: expected the colours under [colours], found also {_listed(unknown)}. {_BLENDED}")
    if not coloured:
        values = np.asarray(image).astype(np.uint8) if image.mode == "1" else rgb[..., 0]
        return _by_value(values, path, num_classes, lossy)
    if _starts_black(image):
        indices = np.asarray(image)
        if indices.max() < num_classes:
            return indices.astype(np.uint8)
    found = _counted(rgb)
    if num_classes == 2 and len(found) == 2 and (0, 0, 0) in found:
        return (rgb.max(axis=-1) > 0).astype(np.uint8)
    black = "black and one colour, or " if num_classes == 2 else ""
    raise DataError(
        f"{path}: expected {black}grey values 0 (background) to {num_classes - 1}, found the colours {_listed(found)}. "
        f"Say under [colours] in the data set's description which class each is. {_BLENDED}"
    )


_BLENDED = "Where colours blend at the edges, save masks as PNG, without smoothing."


def _by_value(values: np.ndarray, path: Path | str, num_classes: int, lossy: bool) -> np.ndarray:
    """Grey values or indices: (height, width) of whole numbers to uint8 classes."""
    found = np.unique(values)
    if found[-1] < num_classes and found[0] >= 0:
        return values.astype(np.uint8)
    if num_classes == 2:
        if len(found) <= 2 and found[0] == 0 and found[-1] >= _LIGHT:
            return (values > 0).astype(np.uint8)
        if len(found) == 1 and found[0] in (255, 65535):
            return np.ones(values.shape, np.uint8)
        if lossy and _is_blurred(values):
            return (values >= _LIGHT).astype(np.uint8)
    shown = ", ".join(str(value) for value in found[:8]) + (", …" if len(found) > 8 else "")
    raise DataError(
        f"{path}: expected a mask with values 0 to {num_classes - 1}, or 0 and 255, found {shown}. "
        "Save masks as PNG (JPEG blurs their edges), or list all classes in the data set's description."
    )


def _is_blurred(values: np.ndarray) -> bool:
    """Whether a grey JPEG was black and white: nearly all at the ends, and fewer between than at either end."""
    dark = int(np.count_nonzero(values < _NEAR))
    bright = int(np.count_nonzero(values > 255 - _NEAR))
    between = values.size - dark - bright
    return bool(bright) and between <= _MOST_BETWEEN * values.size and (not between or between <= min(dark, bright))


def _whole(values: np.ndarray, path: Path | str) -> np.ndarray:
    if np.isfinite(values).all() and (values == np.round(values)).all():
        return values.astype(np.int64)
    raise DataError(
        f"{path}: expected a mask of whole numbers, found fractions, or what is no number. Save class indices as PNG."
    )


def _without_alpha(image: Image.Image, path: Path | str) -> np.ndarray:
    """uint8 (height, width, 3). Transparency is ignored, but must not be all that there is."""
    rgb = np.asarray(image.convert("RGB"))
    if image.mode in ("RGBA", "LA", "PA"):
        alpha = np.asarray(image.getchannel("A"))
        if (rgb == rgb[0, 0]).all() and (alpha != alpha[0, 0]).any():
            raise DataError(
                f"{path}: expected a mask in grey or colours, found one colour and a mask in the transparency alone. "
                "Flatten it onto black, and save it without transparency."
            )
    return rgb


def _starts_black(image: Image.Image) -> bool:
    """Whether the values are indices of a palette that begins with black, as class indices do."""
    return image.mode == "P" and not any((image.getpalette("RGB") or [])[:3])


def _by_table(rgb: np.ndarray, colours: Colours) -> tuple[np.ndarray, dict[Colour, int]]:
    """The mask by the table, and the pixels of each colour that is not in it; black is background where not told."""
    mask = np.zeros(rgb.shape[:2], np.uint8)
    known = rgb.max(axis=-1) == 0
    for colour, index in colours:
        pixels = (rgb == np.array(colour, np.uint8)).all(axis=-1)
        mask[pixels] = index
        known |= pixels
    return mask, _counted(rgb[~known])


def _counted(rgb: np.ndarray) -> dict[Colour, int]:
    """How many pixels each colour has, the commonest first."""
    flat = rgb.reshape(-1, 3).astype(np.uint32)
    codes, counts = np.unique(flat[:, 0] << 16 | flat[:, 1] << 8 | flat[:, 2], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {_colour(int(codes[position])): int(counts[position]) for position in order}


def _colour(code: int) -> Colour:
    return code >> 16, code >> 8 & 255, code & 255


def _spelled(colour: Colour) -> str:
    return f"[{colour[0]}, {colour[1]}, {colour[2]}]"


def _listed(found: dict[Colour, int]) -> str:
    shown = [f"{_spelled(colour)} on {count:,} pixels" for colour, count in list(found.items())[:_LISTED]]
    return ", ".join(shown) + (f", … ({len(found):,} colours)" if len(found) > _LISTED else "")
