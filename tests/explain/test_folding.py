"""Networks whose batch normalisation is folded away."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.networks import images_of, randomized, small
from ustoolkit.explain.folding import ChannelScale, without_normalization
from ustoolkit.explain.network import unfold
from ustoolkit.models import build_model


@pytest.mark.parametrize(
    "name",
    ["unet", "lighter_unet", "densenet161", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50_v2",
     "efficientnet_b0", "deeplab_v2"))],
)  # fmt: skip
def test_output_and_gradient_stay(name):
    network = unfold(randomized(build_model(small(name), 2)))
    copy = without_normalization(network)
    images = tf.constant(images_of(2, 64, 64, 3))
    found = []
    for each in (network, copy):
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = each(images, training=False)
        found.append((output.numpy(), tape.gradient(output, images).numpy()))
    (output, gradient), (output_there, gradient_there) = found
    np.testing.assert_allclose(output_there, output, rtol=0, atol=1e-5 * np.abs(output).max())
    # Rounding opens or closes some ReLUs near 0, which gradients of deep networks show.
    np.testing.assert_allclose(gradient_there, gradient, rtol=0, atol=1e-2 * np.abs(gradient).max())
    left = [layer for layer in copy.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert not left


def test_behind_a_convolution_nothing_is_left_of_it_elsewhere_a_scale():
    inputs = keras.layers.Input((8, 8, 2))
    shared = keras.layers.Conv2D(3, 3, use_bias=False, name="shared")(inputs)
    one = keras.layers.BatchNormalization(name="one")(shared)
    other = keras.layers.BatchNormalization(name="other")(keras.layers.Conv2D(3, 1, name="alone")(shared))
    active = keras.layers.Conv2D(3, 3, activation="relu", padding="same", name="active")(one)
    behind = keras.layers.BatchNormalization(name="behind", scale=False)(active)
    network = randomized(keras.Model(inputs, keras.layers.Add()([other, behind])))
    copy = without_normalization(network)
    kinds = {name: isinstance(copy.get_layer(name), ChannelScale) for name in ("one", "other", "behind")}
    assert kinds == {"one": True, "other": False, "behind": True}
    images = images_of(2, 8, 8, 2)
    np.testing.assert_allclose(copy(images), network(images, training=False), rtol=1e-4, atol=1e-3)


def test_a_network_without_it_stays_itself():
    network = unfold(build_model(small("vgg16"), 2))
    assert without_normalization(network) is network
