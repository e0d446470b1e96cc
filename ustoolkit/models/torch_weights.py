"""Weights of DenseNet161 under the names that torchvision and timm give them, from .safetensors and .npz files."""

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ustoolkit.errors import RecipeError
from ustoolkit.recipe.pixels import OFF

TORCH_FILES = {".safetensors", ".npz"}
_PREFIX = "features."
_LEGACY = re.compile(r"\.(norm|conv)\.([12])\.")  # denselayer1.norm.1.weight, as in files from before 2018
_NORMALIZATION = ("weight", "bias", "running_mean", "running_var")  # Keras's gamma, beta, moving mean and variance
_LISTED = 3  # names in a message


def read_torch_weights(path: Path, place: str) -> dict[str, np.ndarray]:
    """Reads a file of torch's weights, without torch.

    Args:
        path: a .safetensors file, or a .npz file of arrays.
        place: for messages: which setting names it.
    Returns:
        float32 arrays by name, in the spelling that torchvision uses today.
    Raises:
        RecipeError: the file cannot be read, or holds something else than arrays of numbers.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    damaged = (SafetensorError, zipfile.BadZipFile, zlib.error, EOFError)
    no_numbers = (ValueError, TypeError, KeyError, AttributeError)  # also of a type that NumPy lacks
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                found = dict(file)
        else:
            found = load_file(path)
        arrays = {name: np.asarray(values, np.float32) for name, values in found.items()}
    except (OSError, *damaged, *no_numbers) as problem:
        raise RecipeError(
            f"{place}: expected a {path.suffix} file of arrays of numbers, found another ({problem}). Write it anew, "
            f'with 32-bit numbers, or set weights = "{OFF}".'
        ) from None
    return {_LEGACY.sub(r".\1\2.", name): values for name, values in arrays.items()}


def densenet_layer(
    arrays: dict[str, np.ndarray], layer: str, shapes: list[tuple[int, ...]], place: str
) -> list[np.ndarray]:
    """The weights of one layer of a DenseNet.

    Args:
        arrays: of `read_torch_weights`.
        layer: its name here, such as denseblock1_denselayer1_conv1.
        shapes: of its weights here: one kernel, or the four vectors of a normalization.
        place: for messages.
    Returns:
        float32 arrays in Keras's order; a kernel as (height, width, input channels, filters). A kernel's shape is not
        checked, since the first one can be fitted to other channels.
    Raises:
        RecipeError: weights are missing or have other dimensions.
    """
    stem = _PREFIX + layer.replace("_", ".")
    names = [f"{stem}.{part}" for part in (_NORMALIZATION if len(shapes) > 1 else _NORMALIZATION[:1])]
    values = [arrays[name] for name in names]
    if len(shapes) == 1:
        if values[0].ndim != 4:
            raise _misfit(place, names[0], values[0].shape, "of four dimensions, a convolution's")
        return [values[0].transpose(2, 3, 1, 0)]  # from (filters, input channels, height, width)
    for name, value, shape in zip(names, values, shapes, strict=True):
        if value.shape != shape:
            raise _misfit(place, name, value.shape, f"of {' × '.join(map(str, shape))}")
    return values


def check_names(arrays: dict[str, np.ndarray], layers: dict[str, int], place: str) -> None:
    """Checks that a file has the weights of each layer.

    Args:
        arrays: of `read_torch_weights`.
        layers: how many weights each layer has here, by its name: 1 or 4.
        place: for messages.
    Raises:
        RecipeError: some are missing.
    """
    missing = [
        name
        for layer, number in layers.items()
        for part in _NORMALIZATION[:number]
        if (name := f"{_PREFIX}{layer.replace('_', '.')}.{part}") not in arrays
    ]
    if missing:
        listed = ", ".join(missing[:_LISTED]) + (f" and {len(missing) - _LISTED} more" if missing[_LISTED:] else "")
        raise RecipeError(
            f"{place}: expected torchvision's or timm's densenet161, found no {listed}, but {len(arrays)} arrays such "
            f"as {', '.join(list(arrays)[:_LISTED]) or 'none'}. Name a file of that network with all its blocks, set "
            f'blocks, beside weights, as the file has them, or weights = "{OFF}".'
        )


def _misfit(place: str, name: str, found: tuple[int, ...], expected: str) -> RecipeError:
    return RecipeError(
        f"{place}: {name}: expected an array {expected}, found {' × '.join(map(str, found)) or 'a single number'}. "
        f'Name a file of densenet161 as wide as the network here, or set weights = "{OFF}".'
    )
