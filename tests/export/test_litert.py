"""LiteRT files: that they segment as the networks do, at every precision, and hold their description."""

import json
import subprocess
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.networks import SEGMENTERS, randomized, small
from ustoolkit.errors import RunError
from ustoolkit.evaluation.overlap import dice
from ustoolkit.export.litert import LiteRtWriter, few_groups_split
from ustoolkit.export.portable_graph import PortableGraph
from ustoolkit.inference.graph import Member, SegmentationGraph
from ustoolkit.inference.litert_segmenter import LiteRtSegmenter, read_metadata
from ustoolkit.layers.grouped import GroupedConvolution
from ustoolkit.models import build_model
from ustoolkit.models.load import load_model
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.settings import DataSettings, InferenceSettings

SIZES = [(32, 32), (50, 91), (33, 20), (5, 3), (1, 1), (300, 211)]


def smooth_image(size, channels, seed=0):
    """Blobs over noise, so that resizing has something to keep and something to lose."""
    rng = np.random.default_rng([*size, seed])
    blobs = tf.image.resize(rng.integers(0, 256, (5, 4, channels)).astype(np.float32), size, method="bicubic").numpy()
    return np.clip(blobs + rng.normal(0, 20, blobs.shape), 0, 255).astype(np.uint8)


def described(inference, classes=("background", "lesion")):
    return {"classes": list(classes), "inference": inference.model_dump(mode="json"), "score": float("nan")}


def exported(members, inference, path, precision="float32", classes=("background", "lesion"), calibration=()):
    metadata = described(inference, classes)
    writer = LiteRtWriter(precision)
    content = writer.convert(SegmentationGraph(members, inference), calibration=lambda: iter(calibration))
    path.write_bytes(writer.pack(content, metadata, "# Card\n"))
    return LiteRtSegmenter(path)


def random_member(size, channels, classes=2, keep_aspect=False):
    data = DataSettings(image_size=size, channels=channels, keep_aspect=keep_aspect)
    recipe = Recipe(data=data, model={"name": "unet", "widths": (4, 8)})
    return Member(randomized(build_model(recipe, classes)), data)


def probability_of(graph, image):
    outputs = graph.network(graph.prepare(image[np.newaxis]))
    return graph.restore(outputs, tf.constant(image.shape[:2]))[0].numpy()


def assert_same_masks(found, expected, threshold):
    """The same but where the decision hangs on rounding."""
    assert found.shape == expected.shape and found.dtype == np.float32
    if expected.shape[-1] == 1:
        differ, margin = (found >= threshold) != (expected >= threshold), abs(expected - threshold)
    else:
        differ = found.argmax(-1) != expected.argmax(-1)
        margin = -np.diff(np.sort(expected, axis=-1)[..., -2:][..., ::-1])[..., 0]
    assert not (differ & (margin >= 1e-4)).any()


@pytest.fixture(scope="module")
def member(trained_run):
    return Member(load_model(trained_run), trained_run.recipe.data)


@pytest.fixture(scope="module")
def held_out(trained_run, records):
    return list(records.read(trained_run.splits["test"]))


@pytest.fixture(scope="module")
def threshold(member, held_out):
    """One that parts the pixels of a network trained for moments."""
    graph = SegmentationGraph([member], InferenceSettings())
    return round(float(np.quantile([probability_of(graph, sample.image) for sample in held_out], 0.85)), 4)


@pytest.fixture(scope="module")
def float32(member, threshold, tmp_path_factory):
    path = tmp_path_factory.mktemp("litert") / "model.tflite"
    return path, exported([member], InferenceSettings(threshold=threshold), path)


CASES = {
    "colour, its shape kept, three classes": (
        lambda: [random_member((32, 48), 3, classes=3, keep_aspect=True)],
        "both",
    ),
    "two that differ, mirrored": (
        lambda: [random_member((32, 32), 1), random_member((48, 32), 3, keep_aspect=True)],
        "horizontal",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_any_size_in_the_same_mask_out(case, tmp_path):
    build, flips = CASES[case]
    members, inference = build(), InferenceSettings(flips=flips, threshold=0.4)
    graph = SegmentationGraph(members, inference)
    classes = ["background", "lesion", "cyst"][: max(2, graph.outputs)]
    segmenter = exported(members, inference, tmp_path / "model.tflite", classes=classes)
    images = [smooth_image(size, 3) for size in SIZES]
    for image, found in zip(images, segmenter.probabilities(images), strict=True):
        expected = probability_of(graph, image)
        assert_same_masks(found, expected, inference.threshold)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_grey_and_colour_go_into_a_trained_network(member, threshold, float32):
    graph = SegmentationGraph([member], InferenceSettings(threshold=threshold))
    images = [smooth_image(size, channels) for size in SIZES for channels in (1, 3)]
    for image, found in zip(images, float32[1].probabilities(images), strict=True):
        assert_same_masks(found, probability_of(graph, image), threshold)


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_pixels_come_to_the_network_as_in_training(keep_aspect):
    model = keras.Sequential([keras.layers.Input((32, 40, 3)), keras.layers.Conv2D(1, 1)])
    member = Member(model, DataSettings(image_size=(32, 40), channels=3, keep_aspect=keep_aspect))
    graph, portable = SegmentationGraph([member], InferenceSettings()), PortableGraph([member], InferenceSettings())
    for size in [*SIZES, (31, 77), (200, 90), (32, 40), (1, 900), (900, 1)]:
        image = tf.constant(smooth_image(size, 3)[np.newaxis])
        (expected,), (found,) = graph.prepare(image), portable.prepare(image)
        assert found.shape == (1, 32, 40, 3)
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_mask_within_is_the_thresholded_probability(float32, threshold):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(float32[0])).get_signature_runner()  # mapped into memory, archive and all
    image = smooth_image((40, 56), 1)
    outputs = runner(images=image[np.newaxis])
    assert outputs["mask"].shape == (1, 40, 56) and outputs["mask"].dtype == np.uint8
    np.testing.assert_array_equal(outputs["mask"], outputs["probability"][..., 0] >= np.float32(threshold))
    np.testing.assert_array_equal(outputs["probability"][0], next(float32[1].probabilities([image])))


@pytest.mark.parametrize(("precision", "difference"), [("float16", 0.005), ("int8", 0.05)])
def test_coarser_numbers_find_the_same_lesions(
    precision, difference, member, threshold, float32, trained_run, records, held_out, tmp_path
):
    calibration = [sample.image for sample in records.read(trained_run.splits["train"])]
    path = tmp_path / "model.tflite"
    coarse = exported([member], InferenceSettings(threshold=threshold), path, precision, calibration=calibration)
    images = [sample.image for sample in held_out]
    found, expected = list(coarse.probabilities(images)), list(float32[1].probabilities(images))
    assert 0 < np.mean(np.abs(np.subtract(found, expected))) < difference / 5
    np.testing.assert_allclose(found, expected, atol=difference)
    masks = [[each[..., 0] >= threshold for each in side] for side in (found, expected)]
    assert np.mean([dice(*pair) for pair in zip(*masks, strict=True)]) > 0.95
    scores = [np.mean([dice(s.mask > 0, m) for s, m in zip(held_out, side, strict=True)]) for side in masks]
    assert abs(scores[0] - scores[1]) < 0.01
    assert path.stat().st_size < float32[0].stat().st_size


def test_int8_computes_the_network_in_whole_numbers(member, records, trained_run, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    writer = LiteRtWriter("int8")
    images = [sample.image for sample in records.read(trained_run.splits["train"][:4])]
    content = writer.convert(SegmentationGraph([member], InferenceSettings()), calibration=lambda: iter(images))
    interpreter = Interpreter(model_content=content)
    kinds = {"CONV_2D": set(), "BATCH_MATMUL": set(), "LOGISTIC": set()}
    for operation in interpreter._get_ops_details():
        if operation["op_name"] in kinds:
            details = interpreter._get_tensor_details(int(operation["outputs"][0]), 0)
            kinds[operation["op_name"]].add(details["dtype"])
    assert kinds == {"CONV_2D": {np.int8}, "BATCH_MATMUL": {np.float32}, "LOGISTIC": {np.float32}}


def test_int8_needs_images(member):
    graph = SegmentationGraph([member], InferenceSettings())
    for calibration in (None, lambda: iter(())):
        with pytest.raises(RunError, match="--records"):
            LiteRtWriter("int8").convert(graph, calibration=calibration)
    with pytest.raises(RunError, match="float16"):
        LiteRtWriter("int4")


def test_the_description_is_read_back_and_unzipped(float32, member, threshold, tmp_path):
    path, segmenter = float32
    metadata = read_metadata(path)
    assert metadata.pop("model_sha256") and metadata == {**described(segmenter.inference), "score": None}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["metadata.json", "model_card.md"]
        assert archive.read("model_card.md") == b"# Card\n"
        assert json.loads(archive.read("metadata.json"))["classes"] == ["background", "lesion"]
    listed = subprocess.run(["python3", "-m", "zipfile", "-l", path], capture_output=True, text=True, check=True)
    assert "metadata.json" in listed.stdout
    content = path.read_bytes()
    bare = content[: content.index(b"PK\x03\x04")]
    writer = LiteRtWriter("float32")
    assert writer.pack(bare, described(segmenter.inference), "# Card\n") == content


def test_a_network_that_cannot_be_converted_names_its_layer():
    inputs = keras.layers.Input((16, 16, 1))
    odd = keras.layers.Lambda(lambda x: tf.linalg.svd(x[..., 0], compute_uv=False)[:, None, :, None] + x, name="odd")
    model = keras.Model(inputs, odd(inputs), name="net")
    graph = SegmentationGraph([Member(model, DataSettings(image_size=(16, 16), channels=1))], InferenceSettings())
    with pytest.raises(RunError, match=r"^net/odd: .* found Svd\. Export"):
        LiteRtWriter("float32").convert(graph)


def test_an_activation_that_is_always_0_does_not_end_the_process():
    """The runtime aborts where it is to add int8 tensors whose ranges differ beyond measure."""
    inputs = keras.layers.Input((16, 16, 1))
    sides = [keras.layers.Conv2D(2, 3, padding="same", kernel_initializer="he_normal")(inputs) for _ in range(2)]
    dead = keras.layers.ReLU()(keras.layers.Add()(sides) - 1e4)
    summed = keras.layers.ReLU()(keras.layers.Add()([sides[0] - 1e4, sides[1]]))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(keras.layers.Add()([dead, summed])), name="net")
    graph = SegmentationGraph([Member(model, DataSettings(image_size=(16, 16), channels=1))], InferenceSettings())
    assert LiteRtWriter("int8").convert(graph, calibration=lambda: iter([smooth_image((16, 16), 1)]))


def test_the_network_given_is_left_as_it_was():
    layer = GroupedConvolution(16, 4, lowering="blocks")
    model = keras.Sequential([keras.layers.Input((16, 16, 8)), layer, keras.layers.Conv2D(1, 1)])
    with few_groups_split([model]):
        assert layer.chosen == "split"
    assert layer.chosen == "blocks"
    model = keras.Sequential([keras.layers.Input((16, 16, 64)), many := GroupedConvolution(64, 4, lowering="blocks")])
    with few_groups_split([model]):
        assert many.chosen == "blocks"


VARIANTS = {
    **{name: (name, {}) for name in SEGMENTERS},
    "behind a stem": ("unet", {"stem": 2}),
    "attention": ("unet", {"skips": "attention"}),
    "nested": ("unet", {"skips": "nested", "decoder": "mirrored"}),
    "group normalization": ("unet", {"normalization": "group"}),
    "noisy SELU": ("unet", {"activation": "nhselu"}),
    "two scales": ("unet", {"scales": 2}),
    "standardized pixels": ("unet", {"pixel_normalization": "standardize"}),
    "few groups": ("lighter_unet", {"widths": (8, 16, 16), "group_size": 4}),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("precision", "difference"), [("float32", 1e-5), ("float16", 2e-3), ("int8", 0.03)])
def test_every_network_converts(variant, precision, difference, tmp_path):
    name, settings = VARIANTS[variant]
    recipe = small(name, **settings)
    member = Member(randomized(build_model(recipe, 2)), recipe.data)
    graph = SegmentationGraph([member], InferenceSettings())
    images = [smooth_image((70, 80), 3, seed) for seed in range(6)]
    path = tmp_path / "model.tflite"
    segmenter = exported([member], InferenceSettings(), path, precision, calibration=images[:5])
    difference_found = np.abs(next(segmenter.probabilities(images[5:])) - probability_of(graph, images[5]))
    assert difference_found.mean() < difference
