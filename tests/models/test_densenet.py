"""DenseNet: the published number of weights, Keras's function with copied weights, and torch's own layers."""

import re

import numpy as np
import pytest
import tf_keras as keras

from tests.models.networks import images_of, randomized
from ustoolkit.models import count_trainable
from ustoolkit.models.densenet import dense_features
from ustoolkit.recipe.classifiers import Densenet161Settings

BLOCKS_121 = (6, 12, 24, 16)


def densenet(side, growth_rate, initial_filters, blocks):
    image = keras.Input((side, side, 3))
    return keras.Model(image, dense_features(image, growth_rate, initial_filters, blocks))


def name_in_keras(name):
    """What Keras calls a layer of its DenseNet121."""
    kinds = {"norm": "bn", "conv": "conv"}
    if name in ("conv0", "norm0"):
        return f"conv1/{kinds[name[:4]]}"
    if name == "norm5":
        return "bn"
    block, number, kind, place = re.fullmatch(
        r"(?:denseblock|transition)(\d)(?:_denselayer(\d+))?_(norm|conv)(\d?)", name
    ).groups()
    if number is None:
        return f"pool{int(block) + 1}_{kinds[kind]}"
    place = int(place) - (kind == "norm")
    return f"conv{int(block) + 1}_block{number}_{place}_{kinds[kind]}"


@pytest.mark.slow
def test_densenet161_has_the_published_number_of_weights():
    settings = Densenet161Settings()
    model = densenet(224, settings.growth_rate, settings.initial_filters, settings.blocks)
    assert [tuple(features.shape[1:]) for features in model.outputs] == [
        (56, 56, 384),
        (28, 28, 768),
        (14, 14, 2112),
        (7, 7, 2208),
    ]
    assert count_trainable(model) + 2208 * 1000 + 1000 == 28_681_000


def test_the_number_of_weights_of_a_small_one_by_hand():
    # 7·7·3·8 and its norm; layers from 8 and 12 channels, each 1 × 1 to 16 and 3 × 3 to 4; halved; a layer from 8.
    first, transition, last = 1176 + 16, 32 + 16 * 8, 24
    layers = sum(2 * width + 16 * width + 2 * 16 + 9 * 16 * 4 for width in (8, 12, 8))
    assert count_trainable(densenet(32, 4, 8, (2, 1))) == first + layers + transition + last


@pytest.mark.slow
def test_it_is_keras_densenet121_with_copied_weights():
    here = densenet(64, 32, 64, BLOCKS_121)
    there = randomized(keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(64, 64, 3)))
    assert count_trainable(here) == count_trainable(there)
    for layer in here.layers:
        if layer.weights:
            layer.set_weights(there.get_layer(name_in_keras(layer.name)).get_weights())
    images = images_of(2, 64, 64, 3) / 255
    expected = there(images)
    # Keras guards divisions by 1.001e-5.
    np.testing.assert_allclose(here(images)[-1], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("side", [32, 45])
def test_each_level_halves_the_sides(side):
    features = densenet(side, 2, 4, (1, 1, 1, 1)).outputs
    expected = [-(-side // 4)]
    for _ in range(3):
        expected.append(expected[-1] // 2)
    assert [level.shape[1] for level in features] == expected
