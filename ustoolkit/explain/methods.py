"""The ways to ask where in an image a decision comes from, each from one image to one map."""

from collections.abc import Callable
from functools import partial

import numpy as np
import tf_keras as keras

from ustoolkit.errors import RecipeError
from ustoolkit.explain.attribution import grad_cam, integrated_gradients
from ustoolkit.explain.keras_vis import KerasVis
from ustoolkit.explain.occlusion import fixed_score, occlusion
from ustoolkit.explain.target import LabelTarget, Target

Method = Callable[[keras.Model, np.ndarray, Target, str | None, int], np.ndarray]
"""From a network, an image as it takes it, what is asked, a layer, and how many channels behind the image's own are a
mask, which is not explained, to a map: float32 (height, width)."""
_PATCHES_A_SIDE = 8  # of occlusion, half of one from patch to patch


def by_grad_cam(
    model: keras.Model, image: np.ndarray, target: Target, layer: str | None = None, masks: int = 0
) -> np.ndarray:
    """Grad-CAM of one image: float32 (height, width), 0 to 1; see `grad_cam`."""
    return grad_cam(model, image[np.newaxis], target, layer)[0]


def by_integrated_gradients(
    model: keras.Model, image: np.ndarray, target: Target, layer: str | None = None, masks: int = 0
) -> np.ndarray:
    """Integrated gradients of one image from black, summed over its channels: float32 (height, width), signed."""
    channels = image.shape[-1] - masks
    found = integrated_gradients(model, image[np.newaxis], target, baseline=blackened(image, masks)[np.newaxis])
    return found.attributions[0, ..., :channels].sum(axis=-1)


def by_occlusion(
    model: keras.Model, image: np.ndarray, target: Target, layer: str | None = None, masks: int = 0
) -> np.ndarray:
    """Occlusion of one image: float32 (height, width), how much the score falls; see `occlusion`."""
    channels = image.shape[-1] - masks
    score = fixed_score(model, target, image[np.newaxis])

    def with_masks(covered: np.ndarray) -> np.ndarray:
        kept = np.broadcast_to(image[..., channels:], (*covered.shape[:-1], masks))
        return score(np.concatenate([covered, kept], axis=-1))

    return occlusion(with_masks, image[np.newaxis, ..., :channels], *patch_of(image))[0]


def blackened(image: np.ndarray, masks: int = 0) -> np.ndarray:
    """Where integrated gradients begin: black, with the masks in the last channels as they are."""
    black = np.zeros_like(image)
    black[..., image.shape[-1] - masks :] = image[..., image.shape[-1] - masks :]
    return black


def by_keras_vis(
    model: keras.Model,
    image: np.ndarray,
    target: Target,
    layer: str | None = None,
    masks: int = 0,
    kind: str = "saliency",
    backprop: str | None = None,
) -> np.ndarray:
    """Saliency or Grad-CAM of keras-vis, of an output over the whole image.

    Args:
        model: a functional network.
        image: float32 (height, width, channels).
        target: its class or label; keras-vis knows no regions, so a class is looked at wherever it is.
        layer: whose features are weighed, for 'cam'; None for the nearest before the output.
        masks: of no use here.
        kind: 'saliency' or 'cam'.
        backprop: None, 'guided' or 'rectified'.
    Returns:
        float32 (height, width), 0 to 1.
    Raises:
        RecipeError: the target is a single logit turned round.
        RunError: keras-vis cannot take the network, or there is no ReLU to change.
    """
    with KerasVis(model, model.output._keras_history.layer.name) as vis:
        filters = _output_of(model, target)
        if kind == "saliency":
            return vis.saliency(image, filters, backprop)
        return vis.cam(image, filters, layer, backprop)


def patch_of(image: np.ndarray) -> tuple[int, int]:
    """Side of the squares that cover an image one after another, and the distance from one to the next, pixels."""
    patch = max(2, min(image.shape[:2]) // _PATCHES_A_SIDE)
    return patch, max(1, patch // 2)


def _output_of(model: keras.Model, target: Target) -> list[int] | None:
    """Which outputs of the last layer the target asks for; None for all."""
    index = target.label if isinstance(target, LabelTarget) else target.class_index
    if model.output_shape[-1] == 1:
        if index == 0:
            raise RecipeError(
                "--target: expected the class or label that the network's single output stands for, found the other "
                "one. Leave --target out, or take --engine batched."
            )
        return [0]
    return None if index is None else [index]


METHODS: dict[str, Method] = {
    "Grad-CAM": by_grad_cam,
    "integrated gradients": by_integrated_gradients,
    "occlusion": by_occlusion,
}
"""Ways to ask where in an image a decision comes from, by name."""


def keras_vis_methods(backprop: str | None) -> dict[str, Method]:
    """The ways of keras-vis, with gradients as they are or changed."""
    return {f"keras-vis {kind}": partial(by_keras_vis, kind=kind, backprop=backprop) for kind in ("saliency", "cam")}
