"""Weights for backbones that classify: the features of the network that they come from, and clear refusals."""

import numpy as np
import pytest
import tf_keras as keras
from safetensors.numpy import save_file

from tests.models import torch_densenet
from tests.models.networks import randomized
from tests.models.test_pretrained import picture, scrambled
from ustoolkit.errors import RecipeError
from ustoolkit.models import build_model
from ustoolkit.models.classifiers import features_of
from ustoolkit.models.pretrained import check_pretrained, load_pretrained
from ustoolkit.recipe import load_recipe

SHAPE = (4, 8, (2, 1, 1, 2))  # growth rate, initial filters, blocks
DENSENET = (
    "data.image_size=[64,64]",
    "model.name=densenet161",
    "model.growth_rate=4",
    "model.initial_filters=8",
    "model.blocks=[2,1,1,2]",
    "model.pixel_normalization=imagenet",
)
MEAN, DEVIATION = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])


def recipe(*overrides):
    return load_recipe("unet", overrides)


def loaded(*overrides):
    settings = recipe(*overrides)
    model = build_model(settings, 2)
    return model, load_pretrained(model, settings.model)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A small densenet161 under torchvision's names, and its file."""
    arrays = torch_densenet.random_state(*SHAPE)
    path = tmp_path_factory.mktemp("torch") / "densenet161.safetensors"
    save_file(arrays, path)
    return arrays, path


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory):
    """Keras's VGG16 without the layers that classify, and a file of its weights."""
    model = scrambled(keras.applications.VGG16(include_top=False, weights=None, input_shape=(64, 64, 3)))
    path = tmp_path_factory.mktemp("keras") / "vgg16.h5"
    model.save_weights(path)
    return model, path


def test_densenet161_gives_what_torch_gives_with_the_file(state):
    torch = pytest.importorskip("torch")
    arrays, path = state
    module = torch_densenet.build(*SHAPE)
    module.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in arrays.items()})
    model, transfer = loaded(*DENSENET, f"model.weights={path}")
    assert transfer.not_loaded == {"logits_dense": "not a part of the classification network"}
    expected = torch_densenet.pooled_features(module, (picture() - MEAN) / DEVIATION)
    np.testing.assert_allclose(features_of(model)(picture()), expected, rtol=1e-3, atol=1e-4)


def test_each_array_goes_where_its_name_says(state):
    arrays, path = state
    model, _ = loaded(*DENSENET, f"model.weights={path}")
    backbone = model.get_layer("backbone")
    kernel = backbone.get_layer("denseblock4_denselayer2_conv2").kernel.numpy()
    np.testing.assert_array_equal(
        kernel[0, 2, 5, 3], arrays["features.denseblock4.denselayer2.conv2.weight"][3, 5, 0, 2]
    )
    norm = backbone.get_layer("transition2_norm")
    for weight, part in zip(norm.weights, ("weight", "bias", "running_mean", "running_var"), strict=True):
        np.testing.assert_array_equal(weight, arrays[f"features.transition2.norm.{part}"])


def test_npz_files_and_the_old_spelling_are_read_too(state, tmp_path):
    arrays, path = state
    older = {}
    for name, values in arrays.items():
        for kind in ("norm", "conv"):
            for number in "12":
                name = name.replace(f".{kind}{number}.", f".{kind}.{number}.")
        older[name] = values
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    np.savez(tmp_path / "old.npz", **older)
    one, _ = loaded(*DENSENET, f"model.weights={path}")
    other, _ = loaded(*DENSENET, f"model.weights={tmp_path / 'old.npz'}")
    np.testing.assert_array_equal(features_of(one)(picture()), features_of(other)(picture()))


def test_files_of_half_precision_are_read(state, tmp_path):
    half = {name: values.astype(np.float16) for name, values in state[0].items()}
    save_file(half, tmp_path / "half.safetensors")
    model, _ = loaded(*DENSENET, f"model.weights={tmp_path / 'half.safetensors'}")
    scale = model.get_layer("backbone").get_layer("norm0").gamma
    np.testing.assert_array_equal(scale, half["features.norm0.weight"].astype(np.float32))


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_are_summed_over_and_a_mask_begins_without_effect(state, channels):
    path = state[1]
    settings = recipe(*DENSENET, f"model.weights={path}", f"data.channels={channels}")
    region = settings.classification.region.model_copy(update={"mask_channel": True})
    classification = settings.classification.model_copy(update={"region": region})
    model = build_model(settings.model_copy(update={"classification": classification}), 2)
    load_pretrained(model, settings.model)
    image = picture(channels)
    masks = [np.zeros_like(image[..., :1]), np.full_like(image[..., :1], 255)]
    without, within = (features_of(model)(np.concatenate([image, mask], -1)) for mask in masks)
    np.testing.assert_array_equal(without, within)
    colour, _ = loaded(*DENSENET, f"model.weights={path}")
    expected = features_of(colour)(np.repeat(image, 3 // channels, -1))
    # Of a grey image 'imagenet' gives the channels' mean, which differs a little from what each of them has.
    np.testing.assert_allclose(
        without, expected, rtol=1e-5 if channels == 3 else 0.1, atol=1e-5 if channels == 3 else 0.1
    )


def test_a_grey_vgg_sees_what_the_colour_one_sees_in_three_equal_channels(vgg16):
    source, path = vgg16
    overrides = ("data.image_size=[64,64]", "model.name=vgg16", f"model.weights={path}")
    model, transfer = loaded(*overrides, "data.channels=1", "model.pixel_normalization=symmetric", "model.pooling=max")
    assert len(transfer.loaded) == 13
    image = picture(channels=1)
    expected = source(np.repeat(image, 3, -1) / 127.5 - 1).numpy().max((1, 2))
    np.testing.assert_allclose(features_of(model)(image), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "build", "pixels", "prepare"),
    [
        ("vgg16", keras.applications.VGG16, "imagenet_bgr", keras.applications.vgg16.preprocess_input),
        pytest.param(
            "resnet50_v2",
            keras.applications.ResNet50V2,
            "symmetric",
            keras.applications.resnet_v2.preprocess_input,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "densenet121",
            keras.applications.DenseNet121,
            "imagenet",
            keras.applications.densenet.preprocess_input,
            marks=pytest.mark.slow,
        ),
        pytest.param("efficientnet_b0", keras.applications.EfficientNetB0, "none", None, marks=pytest.mark.slow),
        pytest.param("efficientnet_v2_b0", keras.applications.EfficientNetV2B0, "none", None, marks=pytest.mark.slow),
    ],
)
def test_features_are_those_of_keras_with_a_file_of_its_weights(name, build, pixels, prepare, tmp_path):
    source = randomized(build(include_top=False, weights=None, input_shape=(64, 64, 3)))
    images = picture()
    expected = prepare(images.copy()) if prepare else images
    if name == "efficientnet_b0":
        # Of this one the statistics stand in the file.
        own = next(layer for layer in source.layers if isinstance(layer, keras.layers.Normalization))
        own.adapt_mean.assign(MEAN / 255)
        own.adapt_variance.assign((DEVIATION / 255) ** 2)
        own.finalize_state()
    source.save_weights(tmp_path / "weights.h5")
    settings = ("data.image_size=[64,64]", f"model.name={name}", f"model.weights={tmp_path / 'weights.h5'}")
    model, transfer = loaded(*settings, f"model.pixel_normalization={pixels}")
    assert set(transfer.not_loaded) == {"logits_dense"}
    expected = source(expected).numpy().mean((1, 2))
    np.testing.assert_allclose(features_of(model)(images), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.slow
def test_a_file_with_the_layers_that_classify_is_taken(tmp_path):
    whole = scrambled(keras.applications.ResNet50(weights=None))
    whole.save_weights(tmp_path / "whole.h5")
    model, transfer = loaded("data.image_size=[64,64]", "model.name=resnet50", f"model.weights={tmp_path / 'whole.h5'}")
    assert len(transfer.loaded) == 106
    kernel = whole.get_layer("conv5_block3_3_conv").kernel
    np.testing.assert_array_equal(model.get_layer("backbone").get_layer("conv5_block3_3_conv").kernel, kernel)


def test_segmentation_on_a_backbone_begins_with_the_same_weights(state):
    overrides = [override.replace("model.", "model.classifier.") for override in DENSENET]
    overrides += ["model.name=backbone_fcn", f"model.classifier.weights={state[1]}"]
    overrides.sort(key=lambda override: not override.startswith("model.name"))
    model, transfer = loaded(*overrides)
    classifier, expected = loaded(*DENSENET, f"model.weights={state[1]}")
    assert set(transfer.loaded) == set(expected.loaded)
    name = "denseblock3_denselayer1_conv1"
    kernels = [each.get_layer("backbone").get_layer(name).kernel.numpy() for each in (model, classifier)]
    np.testing.assert_array_equal(*kernels)


class TestRefusals:
    def refusal(self, *overrides, check=False):
        settings = recipe(*overrides)
        model = None if check else build_model(settings, 2)
        before = [] if check else model.get_weights()
        with pytest.raises(RecipeError) as caught:
            check_pretrained(settings.model) if check else load_pretrained(model, settings.model)
        assert check or all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
        return str(caught.value)

    def saved(self, arrays, folder):
        save_file(arrays, folder / "changed.safetensors")
        return f"model.weights={folder / 'changed.safetensors'}"

    def test_weights_that_are_missing(self, state, tmp_path):
        arrays = {name: values for name, values in state[0].items() if "denselayer2.norm2" not in name}
        message = self.refusal(*DENSENET, self.saved(arrays, tmp_path))
        assert "no features.denseblock1.denselayer2.norm2.weight" in message and "5 more" in message
        assert 'weights = "off"' in message

    def test_a_normalization_of_another_width(self, state, tmp_path):
        arrays = {**state[0], "features.norm5.bias": np.zeros(3, np.float32)}
        message = self.refusal(*DENSENET, self.saved(arrays, tmp_path))
        assert "features.norm5.bias: expected an array of" in message and "found 3." in message

    def test_a_kernel_of_another_shape(self, state, tmp_path):
        arrays = {**state[0], "features.conv0.weight": np.zeros((8, 3, 5, 5), np.float32)}
        message = self.refusal(*DENSENET, self.saved(arrays, tmp_path))
        assert "5 × 5 × 3 × 8" in message and "7 × 7 × 3 × 8" in message and "growth_rate" in message

    def test_a_kernel_that_is_none(self, state, tmp_path):
        arrays = {**state[0], "features.conv0.weight": np.zeros(8, np.float32)}
        assert "of four dimensions" in self.refusal(*DENSENET, self.saved(arrays, tmp_path))

    def test_a_file_of_another_network(self, tmp_path):
        message = self.refusal(*DENSENET, self.saved({"layer1.0.conv1.weight": np.zeros(3, np.float32)}, tmp_path))
        assert "found no features.conv0.weight" in message and "layer1.0.conv1.weight" in message

    @pytest.mark.parametrize("name", ["broken.safetensors", "broken.npz"])
    def test_a_file_that_holds_something_else(self, name, tmp_path):
        for content in (b"", b"no weights at all", b"PK\x03\x04 and no more"):
            (tmp_path / name).write_bytes(content)
            message = self.refusal(*DENSENET, f"model.weights={tmp_path / name}")
            assert "expected a" in message and "file of arrays of numbers" in message

    def test_arrays_that_are_no_numbers_or_have_no_names(self, tmp_path):
        for values in (np.array(["a"]), np.array([{}], object)):
            np.savez(tmp_path / "words.npz", values)
            assert "arrays of numbers" in self.refusal(*DENSENET, f"model.weights={tmp_path / 'words.npz'}")
        with (tmp_path / "words.npz").open("wb") as file:
            np.save(file, np.zeros(3))  # a single array, without names
        assert "arrays of numbers" in self.refusal(*DENSENET, f"model.weights={tmp_path / 'words.npz'}")

    def test_a_keras_file_of_another_network(self, vgg16):
        message = self.refusal("data.image_size=[64,64]", "model.name=vgg19", f"model.weights={vgg16[1]}")
        assert "expected Keras's .h5 file of vgg19" in message

    @pytest.mark.parametrize(
        ("overrides", "says"),
        [
            (("model.name=densenet161", "model.weights=imagenet"), "torchvision's or timm's densenet161"),
            (("model.name=densenet161", "model.weights=some.h5"), ".safetensors or .npz"),
            (("model.name=densenet161", "model.weights=some.pth"), "torchvision.models.densenet161"),
            (("model.name=densenet161", "model.weights=nowhere.npz"), "no such file"),
            (("model.name=resnet50", "model.weights=nowhere.h5"), "no such file"),
            (("model.name=resnet50", "model.weights=some.safetensors"), "Keras's .h5 file of resnet50"),
            (("model.name=vgg19", "model.weights=noisy"), "'off', 'imagenet' or"),
        ],
    )
    def test_what_is_not_there_is_refused_beforehand(self, overrides, says):
        assert says in self.refusal(*overrides, check=True)

    def test_the_setting_is_named_where_it_stands(self):
        message = self.refusal("model.name=backbone_fcn", "model.classifier.weights=nowhere.h5", check=True)
        assert message.startswith("model.classifier.weights: nowhere.h5")


@pytest.mark.parametrize(
    ("name", "suited"),
    [
        ("vgg19", "imagenet_bgr"),
        ("resnet101", "imagenet_bgr"),
        ("resnet50_v2", "symmetric"),
        ("densenet169", "imagenet"),
        ("efficientnet_b0", "none"),
        ("efficientnet_v2_b0", "none"),
    ],
)
def test_pixel_values_that_do_not_suit_are_warned_of(name, suited):
    overrides = (f"model.name={name}", "model.weights=imagenet")
    (warning,) = check_pretrained(recipe(*overrides).model)
    assert f"model.pixel_normalization='{suited}'" in warning and "'unit'" in warning
    assert check_pretrained(recipe(*overrides, f"model.pixel_normalization={suited}").model) == []


def test_torch_weights_want_torch_pixels(state):
    (warning,) = check_pretrained(recipe(*DENSENET[:-1], f"model.weights={state[1]}").model)
    assert "torch's densenet161" in warning and "'imagenet'" in warning
    assert check_pretrained(recipe(*DENSENET, f"model.weights={state[1]}").model) == []


def test_nothing_is_loaded_where_weights_are_off():
    for overrides in (DENSENET, ("model.name=backbone_fcn",)):
        settings = recipe(*overrides).model
        assert load_pretrained(keras.Sequential(), settings) is None and check_pretrained(settings) == []
