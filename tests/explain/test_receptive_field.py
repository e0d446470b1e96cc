"""Receptive fields: counted by hand, known from the literature, and the support of gradients."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.networks import small
from ustoolkit.errors import RunError
from ustoolkit.explain.network import inner_layers, kernel_layers
from ustoolkit.explain.receptive_field import ReceptiveField, receptive_fields
from ustoolkit.layers.grouped import GroupedConvolution
from ustoolkit.models import MODELS, build_model

layers = keras.layers
QUICK = ("unet", "lighter_unet")


def row(*parts: layers.Layer, shape: tuple[int, ...] = (48, 40, 4)) -> keras.Model:
    """Layers one after another."""
    inputs = current = layers.Input(shape)
    for part in parts:
        current = part(current)
    return keras.Model(inputs, current)


def field_of(model: keras.Model) -> ReceptiveField:
    name = list(inner_layers(model))[-1]
    return receptive_fields(model, [name])[name]


def conv(side: int = 3, strides: int = 1, dilation: int = 1, padding: str = "same") -> layers.Layer:
    return layers.Conv2D(4, side, strides, padding, dilation_rate=dilation)


def doubled(interpolation: str) -> layers.Layer:
    return layers.UpSampling2D(interpolation=interpolation)


@pytest.mark.parametrize(
    ("parts", "pixels", "stride"),
    [
        ((conv(), conv()), 5, 1),
        ((conv(), layers.MaxPool2D(), conv()), 3 + 1 + 2 * 2, 2),
        ((conv(7, 2), layers.MaxPool2D(3, 2, "same")), 7 + 2 * 2, 4),
        ((conv(dilation=4),), 9, 1),
        ((conv(dilation=4), conv(dilation=2), conv()), 9 + 4 + 2, 1),
        ((layers.AveragePooling2D(2), layers.DepthwiseConv2D(3, dilation_rate=2, padding="same")), 2 + 4 * 2, 2),
        ((layers.SeparableConv2D(4, 5), layers.BatchNormalization(), layers.ReLU(6.0)), 5, 1),
        ((doubled("nearest"),), 1, Fraction(1, 2)),
        # Units 2 n and 2 n + 1 repeat a pixel, so that three in a row show two.
        ((doubled("nearest"), conv()), 2, Fraction(1, 2)),
        ((doubled("bilinear"),), 2, Fraction(1, 2)),
        ((doubled("bilinear"), conv()), 3, Fraction(1, 2)),
        ((layers.MaxPool2D(), doubled("nearest")), 2, 1),
        ((layers.Conv2DTranspose(4, 2, 2),), 1, Fraction(1, 2)),
        ((layers.Conv2DTranspose(4, 3, 2, "same"),), 2, Fraction(1, 2)),
        ((layers.Conv2DTranspose(4, 1, 2),), 1, Fraction(1, 2)),
        ((layers.ZeroPadding2D(3), conv(7, 2, padding="valid"), layers.Cropping2D(2)), 7, 2),
        *(((GroupedConvolution(4, 2, lowering=way),), 3, 1) for way in ("native", "split", "blocks", "merged")),
        ((GroupedConvolution(4, 1, lowering="depthwise"),), 3, 1),
        ((conv(), layers.GroupNormalization(2), conv()), math.inf, 1),
        ((conv(), layers.Activation("swish"), layers.MaxPool2D()), 4, 2),
        ((layers.MaxPool2D(), layers.Flatten(), layers.Dense(3)), math.inf, 0),
        ((conv(), layers.GlobalAveragePooling2D(keepdims=True), layers.Conv2D(2, 1)), math.inf, 0),
    ],
)
def test_as_counted_by_hand(parts, pixels, stride):
    assert field_of(row(*parts)) == ReceptiveField(pixels, pixels, Fraction(stride), Fraction(stride))


def test_height_and_width_are_counted_each_by_itself():
    rows = layers.Conv2D(4, (1, 5), strides=(3, 1), dilation_rate=1, padding="same")
    assert field_of(row(rows, layers.MaxPool2D((2, 1)))) == ReceptiveField(4, 5, Fraction(6), Fraction(1))
    assert field_of(row(layers.Conv2D(4, 3, dilation_rate=(1, 4), padding="same"))).width == 9


def test_a_join_sees_what_its_parts_see():
    inputs = layers.Input((48, 40, 4))
    deep = doubled("nearest")(conv()(layers.MaxPool2D()(inputs)))
    joined = field_of(keras.Model(inputs, layers.Concatenate()([conv(5)(inputs), deep])))
    # Even units see 2 pixels behind and 3 ahead of themselves in the deep branch, odd ones 3 and 2.
    assert joined == ReceptiveField(6, 6, Fraction(1), Fraction(1))


def test_what_weighs_channels_by_their_mean_sees_the_whole_image():
    inputs = layers.Input((32, 32, 4))
    features = conv()(inputs)
    squeezed = layers.Conv2D(4, 1)(layers.GlobalAveragePooling2D(keepdims=True)(features))
    field = field_of(keras.Model(inputs, layers.Multiply()([features, squeezed])))
    assert field == ReceptiveField(math.inf, math.inf, Fraction(1), Fraction(1))


def test_a_slice_and_blocks_of_places():
    inputs = layers.Input((32, 32, 4))
    sliced = keras.Model(inputs, tf.nn.space_to_depth(conv()(inputs)[:, 1::2, :, ::-1], 2))
    assert field_of(sliced) == ReceptiveField(3 + 2, 3 + 1, Fraction(4), Fraction(2))


def test_sides_that_were_rounded_still_fit_together():
    inputs = layers.Input((33, 33, 4))
    coarse = layers.Resizing(33, 33)(layers.MaxPool2D(padding="same")(inputs))
    assert field_of(keras.Model(inputs, layers.Add()([inputs, coarse]))).stride_height == 1
    assert math.isfinite(field_of(keras.Model(inputs, layers.Add()([inputs, coarse]))).height)


def test_a_network_for_images_of_any_size():
    assert field_of(row(conv(), conv(), shape=(None, None, 1))).height == 5


def published(network: str, *names: str) -> list[float]:
    model = getattr(keras.applications, network)(include_top=False, weights=None, input_shape=(64, 64, 3))
    return [field.height for field in receptive_fields(model, names).values()]


def test_the_fields_of_vgg_as_published():
    assert published("VGG16", "block5_conv3", "block5_pool") == [196, 212]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "name", "pixels"),
    [("ResNet50", "conv5_block3_out", 483), ("ResNet101", "conv5_block3_out", 1027), ("DenseNet121", "relu", 2071)],
)
def test_fields_as_published_by_araujo_and_others(network, name, pixels):
    assert published(network, name) == [pixels]


def test_the_encoder_of_a_unet():
    found = receptive_fields(build_model(small("unet"), 2), ["encoder0_conv2", "encoder1_conv2", "encoder2_conv2"])
    assert [field.height for field in found.values()] == [5, 5 + 1 + 2 * 4, 14 + 2 + 4 * 4]


@pytest.mark.parametrize(
    "parts",
    [
        (conv(), conv(5, 2), conv()),
        (conv(4, 2), conv(dilation=3), layers.AveragePooling2D(3, 2, "same")),
        (layers.ZeroPadding2D(((0, 1), (2, 0))), conv(3, 2, padding="valid"), layers.Conv2DTranspose(2, 4, 2, "same")),
        (layers.AveragePooling2D(4), doubled("bilinear"), conv(), doubled("nearest"), conv()),
        (layers.AveragePooling2D(2), layers.Conv2DTranspose(3, 3, 3), conv(dilation=2)),
        (conv(3, 2), layers.UpSampling2D(3, interpolation="bilinear"), layers.AveragePooling2D(2), conv(2)),
    ],
)
def test_gradients_of_positive_weights_fill_the_field(parts):
    model = row(*parts, shape=(96, 108, 2))
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 0.1, np.float32))
    field = field_of(model)
    images = tf.ones((1, 96, 108, 2))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        outputs = model(images)
        middle = [side // 2 for side in outputs.shape[1:3]]
        units = [tf.reduce_sum(outputs[:, middle[0] + step, middle[1] + step]) for step in range(12)]
    seen = [np.argwhere(np.abs(tape.gradient(unit, images)[0]).sum(-1) > 1e-9) for unit in units]
    sizes = np.array([places.max(0) - places.min(0) + 1 for places in seen])
    np.testing.assert_array_equal(sizes.max(0), [field.height, field.width])
    moved = seen[11].min(0) - seen[0].min(0)
    np.testing.assert_allclose(moved, 11 * np.array([field.stride_height, field.stride_width], float), atol=4)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_every_layer_with_a_kernel_has_a_field(name):
    model = build_model(small(name), 2)
    found = receptive_fields(model, kernel_layers(model))
    assert list(found) == kernel_layers(model)
    assert all(field.height >= 1 and field.width >= 1 for field in found.values())
    if not name.startswith(("deeplab_v3", "efficientnet")):  # these pool the image or weigh channels by their mean
        assert all(math.isfinite(field.height) for layer, field in found.items() if layer != "logits_dense")


def test_a_name_that_is_not_there_is_answered_with_the_nearest():
    model = row(layers.Conv2D(4, 3, name="first_conv"))
    with pytest.raises(RunError, match="first_conv"):
        receptive_fields(model, ["first_con"])
    assert receptive_fields(model, []) == {}
