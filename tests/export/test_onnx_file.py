"""The ONNX file: what is in it, that ONNX Runtime segments as the networks do, and what is refused."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.models.networks import SEGMENTERS, randomized, small
from ustoolkit.errors import RunError
from ustoolkit.export.onnx_file import OnnxWriter
from ustoolkit.inference.graph import Member, SegmentationGraph
from ustoolkit.inference.onnx_segmenter import OnnxSegmenter
from ustoolkit.models import build_model
from ustoolkit.models.load import load_model
from ustoolkit.recipe.settings import DataSettings, InferenceSettings

onnx = pytest.importorskip("onnx")
pytest.importorskip("tf2onnx")
runtime = pytest.importorskip("onnxruntime")

SIZES = [(32, 32), (50, 90), (33, 20), (7, 1), (300, 211)]


def described(inference, classes):
    return {"classes": classes, "inference": inference.model_dump(mode="json"), "score": float("nan")}


def image_of(size, channels):
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, channels), np.uint8)


@pytest.fixture(scope="module")
def graph(trained_run):
    inference = InferenceSettings(threshold=0.4375)
    return SegmentationGraph([Member(load_model(trained_run), trained_run.recipe.data)], inference)


@pytest.fixture(scope="module")
def content(graph):
    writer = OnnxWriter()
    return writer.pack(writer.convert(graph), described(graph.inference, ["background", "lesion"]), "")


@pytest.fixture(scope="module")
def path(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(content)
    return path


def assert_equal(graph, content, sizes, channels):
    """ONNX Runtime's probability and mask are the graph's but for rounding; masks are compared before cleaning."""
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for size in sizes:
        image = image_of(size, channels)[np.newaxis]
        probability, mask = session.run(["probability", "mask"], {"images": image})
        expected = graph.segment(tf.constant(image))["probability"].numpy()
        assert probability.dtype == np.float32 and mask.dtype == np.uint8 and mask.shape == (1, *size)
        np.testing.assert_allclose(probability, expected, atol=1e-4)
        if graph.outputs == 1:
            decided, margin = (
                expected[..., 0] >= graph.inference.threshold,
                abs(expected[..., 0] - graph.inference.threshold),
            )
        else:
            two = np.sort(expected, axis=-1)[..., -2:]
            decided, margin = expected.argmax(-1), (two[..., 1] - two[..., 0]) / 2
        assert not ((mask != decided) & (margin >= 1e-4)).any()


def test_any_size_in_the_same_mask_out(graph, content):
    assert_equal(graph, content, SIZES, 1)


def test_the_segmenter_takes_grey_and_colour(graph, path):
    segmenter = OnnxSegmenter(path)
    assert segmenter.classes == ["background", "lesion"] and segmenter.inference == graph.inference
    images = [image_of(size, channels) for size in SIZES[:3] for channels in (1, 3)]
    for image, found in zip(images, segmenter.probabilities(images), strict=True):
        expected = graph.segment(tf.constant(image[np.newaxis]))["probability"][0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_metadata_and_names_are_inside(content):
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model)
    (metadata,) = [entry.value for entry in model.metadata_props if entry.key == "metadata.json"]
    assert json.loads(metadata)["classes"] == ["background", "lesion"] and json.loads(metadata)["score"] is None
    sizes = [size.dim_param or size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    assert model.graph.input[0].name == "images" and sizes == [1, "height", "width", 1]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


@pytest.mark.slow
def test_several_networks_of_different_inputs_with_flips_and_three_classes():
    settings = [DataSettings(image_size=(32, 48), channels=1, keep_aspect=True), DataSettings(image_size=(16, 16))]
    members = []
    for data in settings:
        recipe = small("unet").model_copy(update={"data": data})
        members.append(Member(randomized(build_model(recipe, 3)), data))
    graph = SegmentationGraph(members, InferenceSettings(flips="both"))
    assert_equal(graph, OnnxWriter().convert(graph), [(40, 40), (64, 30), (20, 100)], 3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in SEGMENTERS), ("unet", {"stem": 4})])
def test_every_network_is_converted(name, settings):
    recipe = small(name, **settings)
    graph = SegmentationGraph([Member(randomized(build_model(recipe, 2)), recipe.data)], InferenceSettings())
    assert_equal(graph, OnnxWriter().convert(graph), SIZES, 3)


@pytest.mark.parametrize("missing", ["onnx", "tf2onnx"])
def test_missing_packages_are_named(graph, missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(RunError, match=rf"package {missing}.*pip install 'ustoolkit\[onnx\]'"):
        OnnxWriter().convert(graph)


def test_without_the_runtime_no_file_is_read(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RunError, match="package onnxruntime"):
        OnnxSegmenter(path)


def test_damaged_and_foreign_files_are_refused(content, tmp_path):
    bare = onnx.load_from_string(content)
    del bare.metadata_props[:]
    generator = np.random.default_rng(3)
    flipped = [bytearray(content) for _ in range(10)]
    for one in flipped:
        for place in generator.integers(0, 2000, 20):
            one[place] ^= int(generator.integers(1, 256))
    refused = 0
    for number, changed in enumerate([b"", b"nothing", content[:3000], bare.SerializeToString(), *map(bytes, flipped)]):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(changed)
        try:
            OnnxSegmenter(path)
        except RunError as problem:
            assert str(path) in str(problem) and "ustoolkit export" in str(problem)
            refused += 1
    assert refused >= 10


def test_a_file_that_reads_others_is_refused_before_it_runs(content, tmp_path):
    model = onnx.load_from_string(content)
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    first = model.graph.initializer[0]
    first.ClearField("raw_data")
    first.data_location = onnx.TensorProto.EXTERNAL
    first.external_data.add(key="location", value="secret.bin")
    (tmp_path / "external.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RunError, match="another file"):
        OnnxSegmenter(tmp_path / "external.onnx")
    model = onnx.load_from_string(content)
    model.graph.node[0].domain = "com.example"
    (tmp_path / "domain.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RunError, match=r"of com\.example"):
        OnnxSegmenter(tmp_path / "domain.onnx")


@pytest.mark.parametrize("place", ["initializer", "attribute", "attributes", "tensor", "tensors", "branch", "indices"])
def test_numbers_in_another_file_are_found_wherever_they_stand(content, tmp_path, place):
    model, tensor_kind = onnx.load_from_string(content), onnx.TensorProto
    (tmp_path / "secret.bin").write_bytes(bytes(12))
    elsewhere = tensor_kind(name="secret", data_type=tensor_kind.FLOAT, dims=[3], data_location=tensor_kind.EXTERNAL)
    elsewhere.external_data.add(key="location", value="secret.bin")
    indices = onnx.helper.make_tensor("places", tensor_kind.INT64, [3], [0, 1, 2])
    sparse = onnx.helper.make_sparse_tensor(elsewhere, indices, [3])
    attribute = onnx.AttributeProto(name="value")
    if place == "initializer":
        model.graph.sparse_initializer.append(sparse)
    elif place == "indices":
        elsewhere.data_type = tensor_kind.INT64
        model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=indices, indices=elsewhere, dims=[3]))
    elif place == "attribute":
        attribute.sparse_tensor.CopyFrom(sparse)
    elif place == "attributes":
        attribute.sparse_tensors.append(sparse)
    elif place == "tensor":
        attribute.t.CopyFrom(elsewhere)
    elif place == "tensors":
        attribute.tensors.append(elsewhere)
    else:
        attribute.g.sparse_initializer.append(sparse)
    model.graph.node.add(op_type="Constant", output=["seen"], attribute=[attribute])
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RunError, match=r"expected a model that computes only, found numbers in another file"):
        OnnxSegmenter(tmp_path / "model.onnx")


def test_a_file_is_read_as_what_was_looked_through(path, tmp_path):
    """The runtime's own format is known by four bytes, which may as well stand in an ONNX file's remarks."""
    remark = b"\x32\x06  ORTM"
    (tmp_path / "model.onnx").write_bytes(remark + path.read_bytes())
    image = image_of((20, 30), 1)
    found, expected = (next(OnnxSegmenter(one).probabilities([image])) for one in (tmp_path / "model.onnx", path))
    np.testing.assert_array_equal(found, expected)
