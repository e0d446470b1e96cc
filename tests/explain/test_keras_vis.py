"""keras-vis on networks of today: right values, for every network, and nothing left behind."""

import collections
import gc
import random
import sys
import warnings
import weakref

import numpy as np
import pytest
import scipy.misc
import scipy.ndimage
import tensorflow as tf
import tf_keras as keras
from tensorflow.python.framework.ops import gradient_registry
from tf_keras.src import backend

from tests.models.networks import images_of, randomized, small
from ustoolkit.errors import RunError, ShapeError
from ustoolkit.explain.keras_vis import KerasVis
from ustoolkit.explain.keras_vis_graph import derived_classes
from ustoolkit.explain.keras_vis_import import keras_vis_library
from ustoolkit.explain.network import inner_layers, kernel_layers, unfold
from ustoolkit.explain.objective import Objective
from ustoolkit.layers.grouped import GroupedConvolution
from ustoolkit.models import MODELS, build_model

AMID, LAST = "amid", "last"
QUICK = [("lighter_unet", AMID), ("fcn_8s", AMID), ("vgg16", AMID)]
ACTIVATION = Objective(lp_norm_weight=0.0, total_variation_weight=0.0)


def _filters_of(model, layer, image):
    return unfold(model, layer)(image[np.newaxis], training=False)


def _gradient(model, layer, image, filters):
    """Of minus the mean output of filters, by TensorFlow 2.

    Compiled, since TensorFlow joins operations then, as it does in a session; where the input of a ReLU is next to 0,
    the rounding of that decides whether it is active.
    """
    cut = unfold(model, layer)

    @tf.function
    def compiled(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = -tf.reduce_mean(cut(images, training=False)[..., filters])
        return loss, tape.gradient(loss, images)

    loss, gradient = compiled(tf.constant(image[np.newaxis]))
    return float(loss), gradient[0].numpy()


def _convolution(kernel, activation=None, size=4, then=()):
    """A network of one 1 × 1 convolution, and layers behind it."""
    kernel = np.asarray(kernel, np.float32)
    inputs = outputs = keras.layers.Input((size, size, kernel.shape[0]))
    outputs = keras.layers.Conv2D(kernel.shape[1], 1, activation=activation, use_bias=False, name="first")(outputs)
    for layer in then:
        outputs = layer(outputs)
    model = keras.Model(inputs, outputs)
    model.get_layer("first").set_weights([kernel[np.newaxis, np.newaxis]])
    return model


def _check_layer(name, place):
    """Both methods that optimise, and both that explain an image, at a layer amid a network or at its end."""
    model = randomized(build_model(small(name), 2))
    kernels = kernel_layers(model)
    layer = kernels[len(kernels) // 2] if place == AMID else list(inner_layers(model))[-1]
    image = images_of(64, 64, 3)
    expected_loss, expected = _gradient(model, layer, image, 0)
    with KerasVis(model, layer) as vis:
        loss, gradient = vis.loss_and_gradient(image, 0, ACTIVATION)
        reached = vis.maximize(0, steps=2)
        heatmaps = [vis.saliency(image), vis.cam(image, [0])]
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
    assert reached.picture.shape == reached.image.shape == (64, 64, 3) and reached.picture.dtype == np.uint8
    assert np.isfinite([reached.loss, reached.activation]).all()
    for heatmap in heatmaps:
        assert heatmap.shape == (64, 64) and heatmap.dtype == np.float32
        assert heatmap.min() == 0 and 0 <= heatmap.max() <= 1
    np.testing.assert_allclose(heatmaps[0], _saliency(model, layer, image), atol=1e-3)


def _saliency(model, layer, image):
    largest = np.abs(_gradient(model, layer, image, slice(None))[1]).max(-1)
    return (largest - largest.min()) / (largest.max() - largest.min() + 1e-7)


@pytest.mark.parametrize(("name", "place"), QUICK)
def test_networks_of_several_families(name, place):
    _check_layer(name, place)


@pytest.mark.slow
@pytest.mark.parametrize("place", [AMID, LAST])
@pytest.mark.parametrize("name", MODELS)
def test_every_network(name, place):
    _check_layer(name, place)


def test_the_loss_is_the_sum_of_its_terms():
    model = _convolution([[2.0]], size=3)
    image = np.float32([[0, 3, 1], [4, 0, 0], [2, 5, 7]])[..., np.newaxis]
    objective = Objective(1.0, 10.0, 3.0, 5.0, 2.0)
    with KerasVis(model, "first") as vis:
        loss, _ = vis.loss_and_gradient(image, 0, objective)
    norm = (27 + 1 + 64 + 8 + 125 + 343) ** (1 / 3)
    # Down and to the right of 0, 3, 4 and 0: positions at the lower and the right border have no such neighbours.
    variation = (16 + 9) + (9 + 4) + (4 + 16) + (25 + 0)
    assert loss == pytest.approx(-2 * 22 / 9 + 10 * norm / 9 + 5 * variation / 9, rel=1e-5)


def test_maximizing_follows_the_descent_and_keeps_the_image_behind_the_lowest_loss():
    model = randomized(build_model(small("unet"), 2))
    start = images_of(64, 64, 3)
    with KerasVis(model, "encoder1_conv2") as vis:
        reached = vis.maximize(3, steps=3, initial=start)
        image, squares, losses, images = start.astype(np.float64), 0.0, [], []
        for _ in range(3):
            loss, gradient = vis.loss_and_gradient(image.astype(np.float32), 3)
            gradient = gradient / (np.sqrt(np.mean(np.square(gradient))) + 1e-7)
            squares = 0.95 * squares + 0.05 * gradient**2
            image = image - gradient / np.sqrt(squares + 1e-7)
            losses.append(loss)
            images.append(image)
    best = int(np.argmin(losses))
    assert reached.loss == pytest.approx(losses[best], rel=1e-4)
    np.testing.assert_allclose(reached.image, images[best], atol=0.05)
    evaluated = [start, *images][best].astype(np.float32)
    expected = float(tf.reduce_mean(_filters_of(model, "encoder1_conv2", evaluated)[..., 3]))
    assert reached.activation == pytest.approx(expected, rel=1e-3)
    values = reached.image - reached.image.mean()
    contrast = np.clip(0.1 * values / values.std() + 0.5, 0, 1) * 255
    np.testing.assert_allclose(reached.picture, contrast, atol=1.01)


def test_random_numbers_follow_the_seed():
    with KerasVis(_convolution([[1.0, -1.0]], size=8), "first") as vis:
        first, again, other = (vis.maximize(1, steps=3, jitter=0.3, seed=seed).image for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1


def test_jitter_moves_the_image():
    start = np.zeros((8, 8, 1), np.float32)
    start[3, 3] = 200
    with KerasVis(_convolution([[1.0]], size=8), "first") as vis:
        still = vis.maximize(0, 1, start).image
        moved = [vis.maximize(0, 1, start, jitter=0.3, seed=seed).image for seed in range(5)]
    assert np.unravel_index(still.argmax(), (8, 8)) == (3, 3)
    assert {np.unravel_index(image.argmax(), (8, 8)) for image in moved} != {(3, 3)}


@pytest.mark.parametrize(
    ("activation", "image", "plain", "guided"),
    [
        ("relu", [[1, -1], [0, 2]], [[3, 3], [0, 3]], [[1, 3], [0, 1]]),
        ("relu6", [[1, -1], [7, 2]], [[3, 3], [0, 1]], [[1, 3], [0, 1]]),  # above 6 it is constant
    ],
)
def test_guided_and_rectified_gradients_pass_on_what_the_papers_say(activation, image, plain, guided):
    # Each pixel x has the features x, −3x and 4x, and the last filter weighs what is left of them by 1, 1 and −1: only
    # the first two have a positive gradient. Rectified, it is 1 − 3 at each pixel, active or not.
    last = keras.layers.Conv2D(1, 1, use_bias=False, name="last")
    model = _convolution([[1.0, -3.0, 4.0]], size=2, then=[keras.layers.Activation(activation), last])
    last.set_weights([np.float32([1, 1, -1]).reshape(1, 1, 3, 1)])
    with KerasVis(model, "last") as vis:
        for backprop, expected in ((None, plain), ("guided", guided), ("rectified", np.zeros((2, 2)))):
            heatmap = vis.saliency(np.float32(image)[..., np.newaxis], backprop=backprop)
            np.testing.assert_allclose(heatmap, np.divide(expected, 3), atol=1e-4)


def test_a_gradient_without_relu_is_refused_or_as_it_is():
    image = images_of(4, 4, 1)
    with KerasVis(_convolution([[1.0, -1.0]], "selu"), "first") as vis:
        with pytest.raises(RunError, match="none, but other activations, by Selu"):
            vis.saliency(image, backprop="guided")
        with pytest.raises(RunError, match="'guided' or 'rectified' or None, found 'relu'"):
            vis.saliency(image, backprop="relu")
    model = randomized(build_model(small("unet"), 2))
    with KerasVis(model, "encoder0_conv1") as vis:
        image = images_of(64, 64, 3)
        np.testing.assert_allclose(vis.saliency(image, [0], "guided"), vis.saliency(image, [0]), atol=1e-5)


def test_a_class_activation_map_weighs_features_by_their_mean_gradient():
    dense = keras.layers.Dense(1, use_bias=False, name="scores")
    model = _convolution(np.eye(2), then=[keras.layers.GlobalAveragePooling2D(), dense])
    dense.set_weights([np.float32([[1], [-2]])])
    image = images_of(4, 4, 2)
    with KerasVis(model, "scores") as vis:
        heatmap = vis.cam(image)
        np.testing.assert_array_equal(vis.cam(image, [0], "first"), heatmap)
    raised = np.maximum(image[..., 0] - 2 * image[..., 1], 0)
    assert raised.max() > 0
    np.testing.assert_allclose(heatmap, raised / raised.max(), atol=1e-4)


def test_a_class_activation_map_is_resized_to_the_image():
    pool, dense = keras.layers.MaxPooling2D(), keras.layers.Dense(1, use_bias=False, name="scores")
    model = _convolution([[1.0]], size=8, then=[pool, keras.layers.GlobalAveragePooling2D(), dense])
    dense.set_weights([np.float32([[1]])])
    image = np.zeros((8, 16, 1), np.float32)
    image[6:8, 12:14] = 100
    with KerasVis(model, "scores", image_size=(8, 16)) as vis:
        heatmap = vis.cam(image)
    assert heatmap.shape == (8, 16)
    rows, columns = np.nonzero(heatmap > 0.8)
    assert set(rows) <= {6, 7} and set(columns) == {12, 13}


def test_plain_networks_are_searched_for_features_as_keras_vis_does():
    search = keras_vis_library().visualization.saliency._find_penultimate_layer
    model = build_model(small("unet"), 2)
    for layer, expected in (("encoder1_conv2", "encoder1_conv1"), ("logits", "decoder0_conv2")):
        with KerasVis(model, layer) as vis, vis._inside():
            network = vis._graph.network()
            found = network.layers[vis._graph.penultimate_index(network)]
            assert found is search(network, len(network.layers) - 1, None)
            assert found.name == expected


def test_a_network_of_half_precision_is_explained_in_float32():
    model = randomized(build_model(small("unet"), 2, precision="bfloat16"))
    image = images_of(64, 64, 3)
    with KerasVis(model, "encoder0_conv2") as vis:
        loss, gradient = vis.loss_and_gradient(image, 0, ACTIVATION)
        heatmaps = vis.saliency(image), vis.cam(image)
    expected, _ = _gradient(model, "encoder0_conv2", image, 0)
    assert loss == pytest.approx(expected, rel=0.05)
    assert np.abs(gradient).max() > 0 and all(heatmap.dtype == np.float32 for heatmap in heatmaps)


def _state():
    """What of the process a library of 2018 might change."""
    numpy_state = np.random.get_state()
    return {
        "modules": {name: id(sys.modules.get(name)) for name in ("keras", "keras.backend", "vis", "vis.losses")},
        "lent": [hasattr(collections, "Iterable"), hasattr(scipy.misc, "imresize"), hasattr(tf, "get_default_graph")],
        "lent by layers": [hasattr(keras.layers, name) for name in ("convolutional", "pooling", "wrappers")],
        "scipy": [id(sys.modules.get(name)) for name in ("scipy.misc", "scipy.ndimage.interpolation")],
        "collections": (id(sys.modules["collections"]), sorted(vars(collections))),
        "scipy.ndimage": sorted(vars(scipy.ndimage)),
        "numpy": (numpy_state[0], numpy_state[1].tolist(), numpy_state[2:]),
        "random": random.getstate(),
        "seeds": backend._SEED_GENERATOR.generator.getstate(),
        "eager": (tf.executing_eagerly(), tf.inside_function(), tf.compat.v1.get_default_session()),
        "graph": id(tf.compat.v1.get_default_graph()),
        "session": (id(backend._SESSION.session), backend._MANUAL_VAR_INIT),
        "learning": (keras.backend.learning_phase(), backend.global_learning_phase_is_set()),
        "format": (keras.backend.image_data_format(), keras.backend.floatx(), keras.backend.epsilon()),
        "names": sorted(backend.OBSERVED_NAMES),
        "counts": dict(backend.get_default_graph_uid_map()),
        "gradients": sorted(gradient_registry.list()),
        "warnings": list(warnings.filters),
        "bases": {kind: kind.__bases__ for kind in derived_classes(keras.layers.Layer)},
        "policy": keras.mixed_precision.global_policy().name,
    }


def _with_own_gradient():
    """A small network with a layer whose gradient TensorFlow registers by a name that it makes up."""
    grouped = GroupedConvolution(0, 4, lowering="blocks", name="grouped")
    return _convolution(np.eye(8), "relu", 8, [grouped])


def _work_on(model):
    with KerasVis(model, "grouped") as vis:
        vis.maximize(0, 1, jitter=0.1)
        vis.saliency(images_of(8, 8, 8), [0], "guided")


def _fail_within(model):
    with pytest.raises(RunError), KerasVis(model, "grouped") as vis:
        vis.maximize(0, 2, initial=np.full((8, 8, 8), np.nan))
    with pytest.raises(ZeroDivisionError), KerasVis(model, "grouped") as vis, vis._inside():
        1 / 0  # noqa: B018
    with pytest.raises(RunError):
        KerasVis(model, "nowhere").__enter__()


def test_nothing_is_changed_for_the_rest_of_the_process():
    keras.utils.set_random_seed(3)
    model = _with_own_gradient()
    modules = dict(sys.modules)
    for work in (_work_on, _fail_within):
        keras.layers.Dense(1, name="dense_1000")
        keras.layers.Dense(1)
        number = backend.get_default_graph_uid_map()["", "dense"]
        before = _state()
        work(model)
        after = _state()
        assert [key for key, value in before.items() if after[key] != value] == []
        assert keras.layers.Dense(1).name == f"dense_{number}"
    assert all(sys.modules[name] is module for name, module in modules.items())
    new = {name.split(".")[0] for name in set(sys.modules) - set(modules)}
    assert not new & {"keras", "vis", "collections"}
    model.compile("sgd", "mse")
    model.fit(images_of(1, 8, 8, 8), np.zeros((1, 8, 8, 8)), verbose=0)


def test_two_at_once_and_eager_code_between():
    first, second = _convolution([[1.0]]), _convolution([[-2.0]])
    image = images_of(4, 4, 1)
    with KerasVis(first, "first") as outer:
        with KerasVis(second, "first") as inner:
            assert inner.loss_and_gradient(image, 0, ACTIVATION)[0] == pytest.approx(2 * image.mean())
            assert outer.saliency(image, backprop="guided").shape == (4, 4)
            assert inner.saliency(image, backprop="guided").shape == (4, 4)
        assert float(tf.reduce_mean(first(image[np.newaxis]))) == pytest.approx(image.mean())
        assert outer.loss_and_gradient(image, 0, ACTIVATION)[0] == pytest.approx(-image.mean())
        assert outer.saliency(image, backprop="guided").shape == (4, 4)


def test_the_graph_is_freed():
    with KerasVis(_with_own_gradient(), "grouped") as vis:
        vis.loss_and_gradient(images_of(8, 8, 8), 0)
        graph = weakref.ref(vis._graph._session.graph)
    gc.collect()
    assert graph() is None


def test_wrong_arguments_are_named():
    model = _convolution([[1.0, -1.0]])
    image = images_of(4, 4, 1)
    with pytest.raises(RunError, match="first"):
        KerasVis(model, "frist")
    with pytest.raises(RunError, match="at least 1 pixel"):
        KerasVis(model, "first", image_size=(4, 0))
    with pytest.raises(RunError, match="image_size"):
        KerasVis(_convolution([[1.0]], size=None), "first")
    with KerasVis(model, "first") as vis:
        for filter in (-1, 2, 0.5):
            with pytest.raises(RunError, match="a filter from 0 to 1"):
                vis.maximize(filter, 1)
        with pytest.raises(RunError, match="at least one filter"):
            vis.saliency(image, [])
        for wrong in ({"steps": 0}, {"jitter": 1.0}, {"seed": -1}):
            with pytest.raises(RunError, match=next(iter(wrong))):
                vis.maximize(0, **wrong)
        with pytest.raises(RunError, match="all weights"):
            vis.maximize(0, 1, objective=Objective(0.0, 0.0, 6.0, 0.0))
        with pytest.raises(ShapeError, match=r"\(4, 4, 1\), found \(5, 4, 1\)"):
            vis.cam(images_of(5, 4, 1))
        with pytest.raises(RunError, match="no layer before it"):
            vis.cam(image)
        with pytest.raises(RunError, match="open already"):
            vis.__enter__()
    with pytest.raises(RunError, match="closed"):
        vis.saliency(image)


def test_a_size_that_a_network_does_not_fit_is_refused():
    flat, dense = keras.layers.Flatten(), keras.layers.Dense(1, name="scores")
    model = _convolution([[1.0]], then=[flat, dense])
    with pytest.raises(RunError, match="Leave image_size out"), KerasVis(model, "scores", image_size=(6, 6)):
        pass


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(RunError, match="pip install keras-vis"):
        keras_vis_library.__wrapped__()
