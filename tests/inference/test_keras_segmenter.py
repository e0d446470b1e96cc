"""Keras files that others made: which are taken, and what they give."""

import numpy as np
import pytest
import tf_keras

from tests.inference.keras_files import filled, keras_of, network, saved
from tests.models.networks import images_of
from ustoolkit.errors import RunError
from ustoolkit.inference.keras_segmenter import KerasSegmenter
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.layers.preprocessing import PixelNormalization
from ustoolkit.recipe.settings import InferenceSettings


@pytest.mark.parametrize("version", [2, 3])
def test_a_network_of_either_keras_gives_its_own_probabilities(version, tmp_path):
    model = filled(network(keras_of(version)))
    segmenter = KerasSegmenter(saved(model, tmp_path / "model.keras"))
    image = images_of(16, 24, 3).astype(np.uint8)
    (found,) = segmenter.probabilities([image])
    expected = np.asarray(model(image[np.newaxis].astype(np.float32)))[0]
    assert segmenter.classes == ["background", "lesion"] and segmenter.inference == InferenceSettings()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5)
    (other,) = segmenter.probabilities([images_of(30, 41, 1).astype(np.uint8)])
    assert other.shape == (30, 41, 1) and 0 <= other.min() <= other.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("outputs", "ending"), [(1, None), (2, None), (2, "softmax"), (4, None), (4, "softmax")])
def test_every_ending_becomes_a_probability_once(version, outputs, ending, tmp_path):
    model = filled(network(keras_of(version), outputs, ending, channels=1))
    segmenter = KerasSegmenter(saved(model, tmp_path / "model.keras"))
    image = images_of(16, 24, 1).astype(np.uint8)
    (found,) = segmenter.probabilities([image])
    given = np.asarray(model(image[np.newaxis].astype(np.float32)), np.float64)[0]
    if ending is None:
        given = 1 / (1 + np.exp(-given)) if outputs == 1 else np.exp(given) / np.exp(given).sum(-1, keepdims=True)
    expected = given[..., 1:] if outputs == 2 else given
    np.testing.assert_allclose(found, expected, atol=1e-5)
    names = ["class1", "class2", "class3"] if outputs == 4 else ["lesion"]
    assert segmenter.classes == ["background", *names]
    assert to_mask(found, segmenter.inference).max() < len(segmenter.classes)


def test_a_layer_of_its_own_ends_it_too_and_layers_of_ours_are_known(tmp_path):
    layers = tf_keras.layers
    steps = [layers.Input((16, 16, 1)), PixelNormalization("standardize"), layers.Conv2D(3, 3, padding="same")]
    model = filled(tf_keras.Sequential([*steps, layers.Softmax()]))
    image = images_of(16, 16, 1).astype(np.uint8)
    (found,) = KerasSegmenter(saved(model, tmp_path / "model.keras")).probabilities([image])
    np.testing.assert_allclose(found, model(image[np.newaxis].astype(np.float32))[0], atol=1e-5)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (lambda layers: [layers.Conv2D(1, 3, activation="sigmoid")], r"to \(None, 14, 14, 1\)"),
        (lambda layers: [layers.Flatten()], "'?Flatten"),
        (lambda layers: [layers.GlobalAveragePooling2D()], "GlobalAveragePooling2D"),
        (lambda layers: [layers.Dense(1, activation="softmax")], "a softmax of 1"),
        (lambda layers: [layers.Dense(3, activation="sigmoid")], "a sigmoid of 3"),
        (lambda layers: [layers.Dense(1, activation="relu")], "relu along"),
        (lambda layers: [layers.ReLU()], "ReLU"),
        (
            lambda layers: [layers.MaxPooling2D(), layers.Dense(1, activation="sigmoid"), layers.UpSampling2D()],
            "sigmoid with resampling",
        ),
        (lambda layers: [layers.Lambda(lambda pixels: pixels)], "Lambda"),
    ],
)
def test_networks_of_another_purpose_are_refused(steps, message, tmp_path):
    model = tf_keras.Sequential([tf_keras.layers.Input((16, 16, 1)), *steps(tf_keras.layers)])
    with pytest.raises(RunError, match=message) as refused:
        KerasSegmenter(saved(model, tmp_path / "model.keras"))
    assert str(tmp_path / "model.keras") in str(refused.value) and "damaged" not in str(refused.value)


def test_a_network_of_any_size_is_refused(tmp_path):
    model = tf_keras.Sequential([tf_keras.layers.Input((None, None, 1)), tf_keras.layers.Conv2D(1, 1)])
    with pytest.raises(RunError, match="of a fixed height and width"):
        KerasSegmenter(saved(model, tmp_path / "model.keras"))
