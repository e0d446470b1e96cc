"""keras-vis 0.4.1 on networks of today, in a graph and a session of their own."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tf_keras as keras

from ustoolkit.errors import RunError, ShapeError
from ustoolkit.explain.keras_vis_graph import PrivateGraph
from ustoolkit.explain.keras_vis_import import DescentRecorder, KerasVisLibrary, keras_vis_library
from ustoolkit.explain.network import check_layers
from ustoolkit.explain.objective import Objective

_DEFAULT_OBJECTIVE = Objective()


@dataclass(frozen=True, eq=False)
class KerasVisPicture:
    """What keras-vis made of a filter.

    Attributes:
        picture: uint8 (height, width, channels), with the contrast that keras-vis gives it to be looked at.
        image: float32 (height, width, channels), pixel values before that: those that one step led to from the image
            with the lowest loss, which keras-vis takes for the best.
        loss: the lowest one met, that of the image before that step.
        activation: the filter's mean output for that image; NaN where the objective does not weigh it.
    """

    picture: np.ndarray
    image: np.ndarray
    loss: float
    activation: float


class KerasVis:
    """keras-vis 0.4.1 (Kotikalapudi, 2017) looking at one layer of a network.

    ```python
    with KerasVis(model, "encoder2_conv2") as vis:
        picture = vis.maximize(5, steps=100).picture
    ```

    The network is rebuilt in a graph and session of TensorFlow 1, which are entered for the time of a method and closed
    with the `with` block; eager code runs between. Of the process nothing is changed: neither modules, nor random
    states, nor names that Keras will give. But random states and Keras's names and classes belong to the whole process:
    while a method runs, no other thread should draw random numbers, use Keras, or use another of these.

    Args:
        model: a functional network with one input of pixel values.
        layer: name of the layer, as `inner_layers` gives it.
        image_size: height and width of images, pixels; None for the network's own.
    Raises:
        RunError: there is no such layer, the network does not fit the size, or keras-vis is not installed.
    """

    def __init__(self, model: keras.Model, layer: str, image_size: tuple[int, int] | None = None) -> None:
        check_layers(model, [layer])
        size = tuple(image_size or model.input_shape[1:3])
        if len(size) != 2 or any(side is None or side < 1 for side in size):
            raise RunError(
                f"network {model.name}: expected an image size of two sides of at least 1 pixel, found {size}. "
                "Give one as image_size."
            )
        self._model, self._layer, self._size = model, layer, size
        self._place = f"network {model.name}, layer '{layer}'"
        self._library: KerasVisLibrary = keras_vis_library()
        self._graph: PrivateGraph | None = None

    def __enter__(self) -> "KerasVis":
        if self._graph is not None:
            raise RunError(f"{self._place}: it is open already. Make another KerasVis to open it once more.")
        self._optimizers: dict[tuple[int, Objective], Any] = {}
        self._graph = PrivateGraph(self._model, self._layer, self._size, self._place)
        try:
            with self._inside() as graph:
                graph.network()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        if self._graph is not None:
            self._graph.close()
        self._graph, self._optimizers = None, {}

    def maximize(
        self,
        filter: int,
        steps: int = 200,
        initial: np.ndarray | None = None,
        objective: Objective = _DEFAULT_OBJECTIVE,
        backprop: str | None = None,
        jitter: float = 0.0,
        seed: int = 0,
    ) -> KerasVisPicture:
        """An image that excites a filter, by keras-vis' `visualize_activation_with_losses`.

        Args:
            filter: its number, from 0.
            steps: of gradient descent, at least 1.
            initial: float (height, width, channels), pixel values to begin with; None for noise around mid-grey.
            objective: terms of the loss and their weights.
            backprop: None for the gradient; 'guided' or 'rectified' as for `saliency`. What is positive is then, as
                keras-vis has it, the gradient of the loss, in which the activation counts negative.
            jitter: how far the image is moved at most before each step, a share of its side, in [0, 1).
            seed: of the noise and the movements, from 0 to 2³² − 1.
        Raises:
            RunError: a number is out of its range, or the loss is no number from the start.
            ShapeError: `initial` has another size than the network's images.
        """
        for name, value, fits, expected in (
            ("steps", steps, steps >= 1, "at least 1"),
            ("jitter", jitter, 0 <= jitter < 1, "at least 0 and below 1"),
            ("seed", seed, 0 <= seed < 2**32, "at least 0 and below 2³²"),
        ):
            if not fits:
                raise RunError(f"{self._place}, {name}: expected a number of {expected}, found {value}. Change it.")
        image = None if initial is None else self._checked_image(initial)
        with self._inside(seed) as graph:
            copy = graph.network(backprop)
            losses = self._losses(copy, filter, objective)
            recorder = DescentRecorder(
                f"{self._place}, filter {filter}", losses[0][0].name, objective.activation_weight
            )
            # `post` is called in the opposite order, so the recorder sees what the jitter leaves.
            modifiers = [recorder, *([self._library.input_modifiers.Jitter(jitter)] if jitter else [])]
            picture = self._library.visualization.visualize_activation_with_losses(
                copy.input,
                losses,
                seed_input=image,
                input_range=(0, 255),
                max_iter=steps,
                input_modifiers=modifiers,
                callbacks=[recorder],
            )
        return KerasVisPicture(picture, recorder.image, recorder.loss, recorder.activation)

    def loss_and_gradient(
        self, image: np.ndarray, filter: int, objective: Objective = _DEFAULT_OBJECTIVE
    ) -> tuple[float, np.ndarray]:
        """What keras-vis minimises, for one image.

        Args:
            image: float (height, width, channels), pixel values.
            filter: its number, from 0.
            objective: terms of the loss and their weights.
        Returns:
            the loss, and its gradient, float32 (height, width, channels), not normalised. Not finite where keras-vis'
            own are not: a high norm of large values, a root of the difference of equal neighbours.
        Raises:
            RunError, ShapeError: as `maximize`.
        """
        image = self._checked_image(image)
        with self._inside() as graph:
            copy = graph.network()
            losses = self._losses(copy, filter, objective)
            if (filter, objective) not in self._optimizers:
                optimizer = self._library.optimizer.Optimizer(copy.input, losses, norm_grads=False)
                self._optimizers[filter, objective] = optimizer
            *_, loss, gradient, _ = self._optimizers[filter, objective].compute_fn([image[np.newaxis], 0])
        return float(loss), gradient[0]

    def saliency(
        self, image: np.ndarray, filters: Sequence[int] | None = None, backprop: str | None = None
    ) -> np.ndarray:
        """How much each pixel changes what filters put out, by keras-vis' `visualize_saliency`.

        Its largest absolute gradient of a channel (Simonyan et al., Deep Inside Convolutional Networks, 2014).

        Args:
            image: float (height, width, channels), pixel values.
            filters: those whose mean output over all positions is explained; None for all.
            backprop: None for the gradient. 'guided': at each ReLU no more than the positive part of the gradient is
                passed on, and only where the ReLU is active (Springenberg et al., Striving for Simplicity, 2015).
                'rectified': the positive part, active or not (Zeiler and Fergus, Visualizing and Understanding
                Convolutional Networks, 2014). Other operations keep their gradient.
        Returns:
            float32 (height, width) in [0, 1], the smallest 0 and the largest next to 1; 0 where all are equal.
        Raises:
            RunError: a filter's number is out of range, or there is no ReLU to change the gradient of.
            ShapeError: the image has another size than the network's.
        """
        image = self._checked_image(image)
        with self._inside() as graph:
            copy = graph.network(backprop)
            last = len(copy.layers) - 1
            self._library.visualization.visualize_saliency(copy, last, self._checked_filters(copy, filters), image)
        return np.asarray(self._library.recorder.heatmap[0], np.float32)

    def cam(
        self,
        image: np.ndarray,
        filters: Sequence[int] | None = None,
        penultimate: str | None = None,
        backprop: str | None = None,
    ) -> np.ndarray:
        """Where in the image features stand that raise what filters put out, by keras-vis' `visualize_cam`.

        Args:
            image: float (height, width, channels), pixel values.
            filters: as for `saliency`.
            penultimate: name of the layer whose features are weighed; None for the nearest one with a kernel or pooling
                and more than one position before the one that makes the filters, but the very last before it, which
                keras-vis leaves out if there is another. Of Keras's own layers keras-vis itself takes the same.
            backprop: as for `saliency`.
        Returns:
            float32 (height, width) in [0, 1], the smallest 0 and the largest next to 1; 0 where all are equal, as where
            no feature raises it (Selvaraju et al., Grad-CAM, 2017).
        Raises:
            RunError: also, `penultimate` is not a layer with positions before this one, or there is none.
            ShapeError: the image has another size than the network's.
        """
        image = self._checked_image(image)
        with self._inside() as graph:
            copy = graph.network(backprop)
            last = len(copy.layers) - 1
            index = graph.penultimate_index(copy, penultimate)
            self._library.visualization.visualize_cam(copy, last, self._checked_filters(copy, filters), image, index)
        return np.asarray(self._library.recorder.heatmap, np.float32)

    @contextlib.contextmanager
    def _inside(self, seed: int = 0) -> Iterator[PrivateGraph]:
        if self._graph is None:
            raise RunError(f"{self._place}: it is closed. Use it within its `with` block.")
        with self._graph.entered(seed):
            yield self._graph

    def _losses(self, copy: keras.Model, filter: int, objective: Objective) -> list[tuple[Any, float]]:
        """keras-vis' losses with their weights, the activation's first."""
        weights = (objective.activation_weight, objective.lp_norm_weight, objective.total_variation_weight)
        if not any(weights):
            raise RunError(f"{self._place}: all weights of the objective are 0, so nothing is asked for. Set one.")
        self._check_filters(copy, [filter])
        terms = (
            self._library.losses.ActivationMaximization(copy.layers[-1], int(filter)),
            self._library.regularizers.LPNorm(copy.input, objective.lp_norm),
            self._library.regularizers.TotalVariation(copy.input, objective.total_variation_power),
        )
        return list(zip(terms, weights, strict=True))

    def _checked_filters(self, copy: keras.Model, filters: Sequence[int] | None) -> list[int] | None:
        if filters is None:
            return None  # of which keras-vis makes the mean of all
        self._check_filters(copy, filters)
        return [int(number) for number in filters]

    def _check_filters(self, copy: keras.Model, filters: Sequence[int]) -> None:
        count = copy.output_shape[-1]
        for number in filters:
            if not isinstance(number, int | np.integer) or not 0 <= number < count:
                raise RunError(
                    f"{self._place}: expected a filter from 0 to {count - 1}, found {number!r}. Choose one of these."
                )
        if not len(filters):
            raise RunError(f"{self._place}: expected at least one filter, found none. None stands for all of them.")

    def _checked_image(self, image: np.ndarray) -> np.ndarray:
        expected = (*self._size, self._model.input_shape[-1])
        if np.shape(image) != expected:
            raise ShapeError(
                f"{self._place}: expected an image of shape {expected}, found {np.shape(image)}. Resize it, "
                "or give its height and width as image_size."
            )
        return np.asarray(image, np.float32)
