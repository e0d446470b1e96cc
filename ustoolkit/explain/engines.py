"""Who finds the pictures that excite filters: our own engine, all of a layer at once, or keras-vis, one by one."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tf_keras as keras

from ustoolkit.errors import RecipeError
from ustoolkit.explain.keras_vis import KerasVis
from ustoolkit.explain.maximization import Maximization, MaximizationSettings, maximize
from ustoolkit.explain.objective import Objective
from ustoolkit.progress import progress

Engine = Callable[[keras.Model, str, np.ndarray, MaximizationSettings, str | None], Maximization]


def maximize_together(
    model: keras.Model, layer: str, filters: np.ndarray, settings: MaximizationSettings, backprop: str | None = None
) -> Maximization:
    """All filters at once; see `maximize`.

    Raises:
        RecipeError: back-propagation is to be changed, which keras-vis alone does.
    """
    if backprop is not None:
        raise RecipeError(
            f"--backprop {backprop}: expected --engine keras-vis with it, found batched. Add or drop one."
        )
    return maximize(model, layer, filters, settings)


def maximize_by_keras_vis(
    model: keras.Model, layer: str, filters: np.ndarray, settings: MaximizationSettings, backprop: str | None = None
) -> Maximization:
    """One filter after another by keras-vis; see `KerasVis.maximize`.

    Args:
        model: a functional network.
        layer: one of its layers.
        filters: int (n,), numbers.
        settings: those of keras-vis: pixels, one scale, its own range.
        backprop: None, 'guided' or 'rectified'.
    Raises:
        RecipeError: a setting that keras-vis does not have.
        RunError: keras-vis cannot take the layer.
    """
    if settings.parametrization != "pixels" or settings.scales != 1:
        raise RecipeError(
            "--engine keras-vis: expected --parametrization pixels and --scales 1, which is all that keras-vis has, "
            f"found {settings.parametrization} and {settings.scales}. Leave them out, or take --engine batched."
        )
    with KerasVis(model, layer, settings.image_size) as vis:
        found = [
            vis.maximize(
                int(number), settings.steps, None, settings.objective, backprop, settings.jitter, settings.seed
            )
            for number in progress(filters, f"keras-vis, {layer}", unit="filter")
        ]
    return Maximization(
        layer,
        np.asarray(filters, np.int64),
        np.stack([each.image for each in found]),
        np.array([each.activation for each in found], np.float32),
        np.array([each.loss for each in found], np.float32),
    )


def at_size(settings: MaximizationSettings, size: tuple[int, int]) -> MaximizationSettings:
    """The settings with an image size, where they have none of their own."""
    return settings if settings.image_size else replace(settings, image_size=size)


def evenly_chosen(count: int, most: int) -> np.ndarray:
    """Numbers of at most `most` of `count` filters, evenly spread: int64 (n,), ascending."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


ENGINES: dict[str, Engine] = {"batched": maximize_together, "keras-vis": maximize_by_keras_vis}
"""Who finds pictures that excite filters, by name."""

# The weights that keras-vis has are for units that reach into the hundreds. Our networks divide pixels by their range,
# so the weights have to be those of a picture from 0 to 1; else the regularisers are all that is seen.
PRESETS: dict[str, MaximizationSettings] = {
    "batched": MaximizationSettings(
        parametrization="fourier",
        scales=2,
        jitter=0.05,
        objective=Objective(lp_norm_weight=10 / 255, total_variation_weight=100 / 255**2),
    ),
    "keras-vis": MaximizationSettings(
        jitter=0.05, objective=Objective(lp_norm_weight=10 / 255, total_variation_weight=10 / 255**2)
    ),
}
"""Settings that suit each engine."""
