"""Networks of Keras with ImageNet's weights, downloaded or read from a file, and kernels fitted to other inputs."""

import contextlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tf_keras as keras

from ustoolkit.errors import RecipeError
from ustoolkit.models.backbones import APPLICATIONS
from ustoolkit.models.transfer import WeightedLayer
from ustoolkit.recipe.pixels import OFF

IMAGENET = "imagenet"
_FILES = {".h5", ".hdf5"}
_BUILDERS: dict[str, Callable[..., keras.Model]] = {
    **{name: application.build for name, application in APPLICATIONS.items()},
    "mobilenet_v2": keras.applications.MobileNetV2,
}


def is_keras_file(weights: str) -> bool:
    """Whether a name is one of Keras's files of weights, by its ending."""
    return Path(weights).suffix in _FILES


def keras_application(
    network: str, weights: str, key: str = "model", width: float | None = None, needs_top: bool = False
) -> keras.Model:
    """A network of Keras with its weights; local files are taken with and without the layers that classify.

    Args:
        network: its name in `APPLICATIONS`, or mobilenet_v2.
        weights: 'imagenet', which Keras downloads, or the path of a .h5 file.
        key: of the recipe's table that names the weights, for messages.
        width: factor of MobileNetV2's filters.
        needs_top: whether the layers that classify are wanted.
    Returns:
        the network for images of 224 × 224 × 3.
    Raises:
        RecipeError: the weights cannot be fetched or read, or are of another network.
    """
    local = weights != IMAGENET
    file = str(Path(weights).expanduser()) if local else IMAGENET
    options = {} if width is None else {"alpha": width}
    tops = [True] if needs_top else [False, True] if local else [False]
    problems = []
    for top in tops:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # where Keras says what it downloads; results go to stdout
                return _BUILDERS[network](
                    weights=file, include_top=top, input_shape=(224, 224, 3), classes=1000, **options
                )
        except Exception as problem:  # Keras raises a bare Exception without a connection, h5py and Keras many others
            problems.append(" ".join(str(problem).split())[:300])
    if not local:
        raise RecipeError(
            f"{key}.weights = '{IMAGENET}': the weights could not be fetched ({problems[0]}). Fetch that .h5 file "
            f"where there is a connection, and name it: --set {key}.weights=PATH."
        )
    wanted = " with the fully connected layers (the one without 'notop' in its name)" if needs_top else ""
    raise RecipeError(
        f"{key}.weights: {weights}: expected Keras's .h5 file of {network}{wanted}, found another ({problems[0]}). "
        f'Name that file, or weights = "{OFF}".'
    )


def fitted(kernel: np.ndarray, shape: tuple[int, ...], place: str, first: bool, remedy: str = "") -> np.ndarray:
    """A kernel in the shape of the layer that takes it.

    Args:
        kernel: float32, of a convolution or a fully connected layer.
        shape: of the layer's kernel. A fully connected layer's is unfolded to it.
        place: for the message: which weights, and which layer.
        first: whether the layer sees the image. Its kernel is summed over colours where the image is grey, and zero for
            a mask channel, the last of two or four.
        remedy: for the message; '' for FCN's and DeepLab's.
    Returns:
        float32 of that shape.
    Raises:
        RecipeError: the kernel has another shape.
    """
    found = kernel.shape
    if first and kernel.ndim == 4 and found[2] == 3:
        if shape[2] in (1, 2):
            kernel = kernel.sum(axis=2, keepdims=True)
        if shape[2] in (2, 4):
            kernel = np.pad(kernel, [(0, 0), (0, 0), (0, 1), (0, 0)])
    elif kernel.ndim == 2 and len(shape) == 4 and kernel.size == np.prod(shape):
        kernel = kernel.reshape(shape)
    if kernel.shape != shape:
        raise RecipeError(
            f"{place} has a kernel of {' × '.join(map(str, found))}, and the network here one of "
            f"{' × '.join(map(str, shape))}. "
            + (
                remedy
                or "Give the network the published widths, name weights as narrow as it is, or weights = "
                f'"{OFF}"; a preview goes without, or with --set model.backbone_width=… where there are such.'
            )
        )
    return kernel


def assign(layer: WeightedLayer, values: Iterable[np.ndarray]) -> None:
    """Gives a layer its weights, all of them, in order."""
    for weight, value in zip(layer.weights, values, strict=True):
        weight.assign(value)
