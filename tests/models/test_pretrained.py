"""Weights from classification: the same features as the network that they come from, and clear refusals."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import RecipeError
from ustoolkit.models import build_model
from ustoolkit.models.pretrained import check_pretrained, folded_normalization, load_pretrained
from ustoolkit.recipe import load_recipe

MOBILENET = ("model.name=deeplab_v3", "model.backbone=mobilenet_v2", "model.backbone_width=0.35")
SMALL_HEAD = ("data.image_size=[64,64]", "model.pyramid_width=4")


def recipe(*overrides):
    return load_recipe("unet", overrides)


def loaded(*overrides):
    settings = recipe(*overrides)
    model = build_model(settings, 2)
    return model, load_pretrained(model, settings.model)


def scrambled(model):
    """The model with normalizations and biases as training leaves them, not 0 and 1."""
    random = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.normal(0, 0.3, layer.bias.shape))
    return model


def picture(channels=3, side=64):
    return np.random.default_rng(3).uniform(0, 255, (2, side, side, channels)).astype(np.float32)


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory):
    """Keras's VGG16 without the layers that classify, and a file of its weights."""
    model = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path_factory.mktemp("keras") / "vgg16.h5"
    scrambled(model).save_weights(path)
    return model, path


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """Keras's narrowest MobileNetV2, and a file of its weights."""
    model = keras.applications.MobileNetV2((64, 64, 3), 0.35, include_top=False, weights=None)
    path = tmp_path_factory.mktemp("keras") / "mobilenet.h5"
    scrambled(model).save_weights(path)
    return model, path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The whole MobileNetV2 of tf-models-official, and its checkpoint beside other things."""
    from official.vision.modeling.backbones.mobilenet import MobileNet

    whole = scrambled(MobileNet("MobileNetV2", 0.35, keras.layers.InputSpec(shape=[None, 64, 64, 3]), output_stride=16))
    place = tmp_path_factory.mktemp("official") / "ckpt"
    saved = tf.train.Checkpoint(backbone=whole, head=keras.Sequential([keras.layers.Dense(3)]), step=tf.Variable(9))
    return whole, tf.train.CheckpointManager(saved, str(place), max_to_keep=1).save()


def test_a_folded_normalization_gives_what_convolution_and_normalization_gave():
    random = np.random.default_rng(0)
    theirs = keras.Sequential(
        [keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(epsilon=1.001e-5)]
    )
    ours = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(4, 3, use_bias=False),
            keras.layers.BatchNormalization(epsilon=1e-3),
        ]
    )
    kernel, bias = random.normal(size=(3, 3, 3, 4)), random.normal(size=4).astype(np.float32)
    # Among them a variance that is small beside either epsilon, where the epsilon is what counts.
    weights = [*random.normal(size=(3, 4)).astype(np.float32), np.array([1e-6, 1e-4, 0.1, 5], np.float32)]
    theirs.set_weights([kernel, bias, *weights])
    ours.set_weights([kernel, *folded_normalization(weights, bias, 1.001e-5, 1e-3)])
    inputs = random.normal(size=(2, 6, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(inputs), theirs(inputs), rtol=1e-3, atol=1e-3)
    assert np.abs(np.asarray(theirs(inputs))).max() > 10


def test_fcn_has_the_features_of_keras_vgg16(vgg16):
    source, path = vgg16
    model, transfer = loaded(
        "data.image_size=[32,32]",
        "model.name=fcn_32s",
        "model.decoder_widths=[2,2,2,2,2]",
        f"model.weights={path}",
        "model.pixel_normalization=imagenet_bgr",
    )
    assert len(transfer.loaded) == 13 and all(name.startswith("block") for name in transfer.loaded)
    assert "decoder1_conv" in transfer.not_loaded
    expected = source(keras.applications.vgg16.preprocess_input(picture(side=32).copy()))
    features = keras.Model(model.input, model.get_layer("block5_pool").output)(picture(side=32))
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.slow
def test_fully_connected_layers_become_convolutions(tmp_path):
    vgg16 = keras.applications.VGG16(weights=None)
    scrambled(vgg16).save_weights(tmp_path / "vgg16.h5")
    model, transfer = loaded(
        "data.image_size=[224,224]",
        "model.name=fcn_32s_fc",
        f"model.weights={tmp_path / 'vgg16.h5'}",
        "model.pixel_normalization=imagenet_bgr",
    )
    assert {"fc6", "fc7"} < set(transfer.loaded)
    image = picture(side=224)[:1]
    expected = keras.Model(vgg16.input, vgg16.get_layer("fc2").output)(
        keras.applications.vgg16.preprocess_input(image.copy())
    )
    # In the middle of a map of 7 × 7 the kernel of 7 × 7 sees all of it, as the fully connected layer does.
    features = keras.Model(model.input, model.get_layer("fc7").output)(image)
    np.testing.assert_allclose(features[:, 3, 3], expected, rtol=1e-3, atol=1e-2)


def test_deeplab_has_the_features_of_keras_mobilenet_where_strides_agree(mobilenet):
    source, path = mobilenet
    model, transfer = loaded(*MOBILENET, *SMALL_HEAD, f"model.weights={path}", "model.pixel_normalization=symmetric")
    assert all(name.startswith("backbone/") for name in transfer.loaded)
    assert not any(name.startswith("backbone/") for name in transfer.not_loaded)
    expected = keras.Model(source.input, source.get_layer("block_2_add").output)(picture() / 127.5 - 1)
    features = model.get_layer("backbone")(model.get_layer("pixels")(picture()))["2"]
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_deeplab_has_the_features_of_keras_resnet_within_its_first_stage(tmp_path):
    source = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    scrambled(source).save_weights(tmp_path / "resnet50.h5")
    model, transfer = loaded(
        *SMALL_HEAD,
        "model.name=deeplab_v3",
        "model.backbone=resnet50",
        f"model.weights={tmp_path / 'resnet50.h5'}",
        "model.pixel_normalization=imagenet_bgr",
    )
    backbone = model.get_layer("backbone")
    blocks = [layer for layer in backbone.layers if type(layer).__name__ == "BottleneckBlock"]
    assert len(transfer.loaded) == 2 * 53 and len(blocks) == 16
    pooled = np.random.default_rng(1).uniform(0, 3, (1, 16, 16, 64)).astype(np.float32)
    features, expected = pooled, pooled
    for number, block in enumerate(blocks[:3], start=1):
        features = block(features, training=False)
        expected = keras_block(source, f"conv2_block{number}", expected)
        np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-2)
    # Later stages have their stride elsewhere; their kernels are the same.
    last = source.get_layer("conv5_block3_2_conv").kernel
    assert any(weight.shape == last.shape and np.array_equal(weight, last) for weight in blocks[-1].weights)


def keras_block(source, name, inputs):
    """One block of Keras's ResNet, layer by layer."""

    def step(number, values):
        return source.get_layer(f"{name}_{number}_bn")(source.get_layer(f"{name}_{number}_conv")(values))

    shortcut = step(0, inputs) if name.endswith("block1") else inputs
    return tf.nn.relu(shortcut + step(3, tf.nn.relu(step(2, tf.nn.relu(step(1, inputs))))))


def test_a_grey_network_sees_what_the_colour_one_sees_in_three_equal_channels(mobilenet):
    source, path = mobilenet
    settings = (*MOBILENET, *SMALL_HEAD, f"model.weights={path}", "model.pixel_normalization=symmetric")
    model, _ = loaded(*settings, "data.channels=1")
    image = picture(channels=1)
    colour = np.repeat(image, 3, -1) / 127.5 - 1
    expected = keras.Model(source.input, source.get_layer("block_2_add").output)(colour)
    features = model.get_layer("backbone")(model.get_layer("pixels")(image))["2"]
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)


def test_deeplab_has_the_features_of_an_official_checkpoint(checkpoint):
    whole, prefix = checkpoint
    settings = (*MOBILENET, *SMALL_HEAD, "model.output_stride=16", f"model.weights={prefix}")
    model, transfer = loaded(*settings, "model.pixel_normalization=imagenet")
    values = model.get_layer("pixels")(picture())
    found, expected = model.get_layer("backbone")(values), whole(values)
    for level in ("2", "4"):
        np.testing.assert_array_equal(found[level], expected[level])
    assert all(name.startswith("backbone/") for name in transfer.loaded)


def test_a_folder_of_checkpoints_serves_grey_images_too(checkpoint):
    folder = checkpoint[1].rpartition("/")[0]
    model, _ = loaded(*MOBILENET, *SMALL_HEAD, f"model.weights={folder}", "data.channels=1")
    kernel = next(weight for weight in checkpoint[0].weights if weight.shape == (3, 3, 3, 16))
    np.testing.assert_allclose(model.get_layer("backbone").weights[0], tf.reduce_sum(kernel, 2, keepdims=True), 1e-6)


def test_nothing_is_loaded_without_the_setting():
    for settings in (recipe("model.widths=[2,4]"), recipe("model.name=fcn_8s")):
        assert load_pretrained(keras.Sequential(), settings.model) is None
        assert check_pretrained(settings.model) == []


class TestRefusals:
    def refusal(self, model, *overrides):
        with pytest.raises(RecipeError) as caught:
            load_pretrained(model, recipe(*SMALL_HEAD[:1], *overrides).model)
        return str(caught.value)

    @pytest.fixture
    def any_model(self):
        """What is refused before the network is looked at can do without one."""
        return keras.Sequential([keras.Input((64, 64, 3))])

    def test_a_narrower_network_names_layer_shapes_and_remedy(self, vgg16):
        narrow = ("model.name=fcn_32s", "model.widths=[64,64,8,8,8]", "model.decoder_widths=[2,2,2,2,2]")
        model = build_model(recipe(*SMALL_HEAD[:1], *narrow), 2)
        before = model.get_weights()
        message = self.refusal(model, *narrow, f"model.weights={vgg16[1]}")
        assert "'block2_conv1'" in message and 'weights = "off"' in message
        assert "3 × 3 × 64 × 128" in message and "3 × 3 × 64 × 64" in message
        assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))

    def test_a_file_of_another_network(self, any_model, mobilenet):
        message = self.refusal(any_model, "model.name=fcn_32s", f"model.weights={mobilenet[1]}")
        assert "expected Keras's .h5 file of vgg16" in message

    def test_a_file_without_the_fully_connected_layers(self, any_model, vgg16):
        message = self.refusal(any_model, "model.name=fcn_8s_fc", f"model.weights={vgg16[1]}")
        assert "with the fully connected layers" in message

    def test_a_file_that_holds_something_else(self, any_model, tmp_path):
        (tmp_path / "not.h5").write_bytes(b"no weights")
        message = self.refusal(any_model, *MOBILENET, f"model.weights={tmp_path / 'not.h5'}")
        assert "expected Keras's .h5 file of mobilenet_v2" in message

    def test_a_checkpoint_of_another_width(self, any_model, checkpoint):
        message = self.refusal(any_model, *MOBILENET[:2], f"model.weights={checkpoint[1]}")
        assert "mobilenet_v2 at a width of 1" in message and "(3, 3, 3, 16)" in message

    def test_a_checkpoint_without_a_backbone(self, any_model, tmp_path):
        prefix = tf.train.Checkpoint(other=tf.Variable(1.0)).save(str(tmp_path / "ckpt"))
        assert "under 'backbone'" in self.refusal(any_model, *MOBILENET, f"model.weights={prefix}")

    def test_a_damaged_checkpoint(self, any_model, tmp_path):
        (tmp_path / "ckpt-1.index").write_bytes(b"no index")
        message = self.refusal(any_model, *MOBILENET, f"model.weights={tmp_path / 'ckpt-1'}")
        assert "expected a checkpoint of tf-models-official" in message

    def test_no_connection_names_the_file_to_fetch(self, any_model, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))  # no file from before
        for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(proxy, "http://127.0.0.1:9")
        message = self.refusal(any_model, *MOBILENET, "model.weights=imagenet")
        assert "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5" in message
        assert "--set model.weights=PATH" in message


class TestChecksBeforehand:
    @pytest.mark.parametrize(
        ("overrides", "says"),
        [
            (("model.name=fcn_8s", "model.weights=nowhere.h5"), "no such file"),
            (("model.name=fcn_8s", "model.weights=nowhere"), "Keras's .h5 file of VGG16"),
            ((*MOBILENET, "model.weights=nowhere"), "checkpoint of tf-models-official"),
            ((*MOBILENET[:2], "model.backbone_width=0.6", "model.weights=imagenet"), "0.35, 0.5, 0.75, 1.0, 1.3, 1.4"),
        ],
    )
    def test_what_is_not_there_is_refused(self, overrides, says):
        with pytest.raises(RecipeError, match="weights") as caught:
            check_pretrained(recipe(*overrides).model)
        assert says in str(caught.value)

    def test_pixel_values_that_do_not_suit_are_warned_of(self, checkpoint):
        cases = {
            ("model.name=fcn_8s", "model.weights=imagenet"): "imagenet_bgr",
            ("model.name=deeplab_v2", "model.backbone=resnet50", "model.weights=imagenet"): "imagenet_bgr",
            (*MOBILENET, "model.weights=imagenet"): "symmetric",
            (*MOBILENET, f"model.weights={checkpoint[1]}"): "imagenet",
            (*MOBILENET, f"model.weights={checkpoint[1]}.index"): "imagenet",
            (*MOBILENET, f"model.weights={checkpoint[1].rpartition('/')[0]}"): "imagenet",
        }
        for overrides, suited in cases.items():
            (warning,) = check_pretrained(recipe(*overrides).model)
            assert f"pixel_normalization='{suited}'" in warning and "'unit'" in warning
            assert check_pretrained(recipe(*overrides, f"model.pixel_normalization={suited}").model) == []
