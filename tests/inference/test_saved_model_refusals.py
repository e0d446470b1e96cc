"""What a SavedModel may hold: all of our exports, and nothing that reaches beyond the model."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry
from tensorflow.python.trackable.resource import TrackableResource

from tests.models.networks import CLASSIFIERS, SEGMENTERS, small
from ustoolkit.errors import RunError
from ustoolkit.export.saved_model import write_saved_model
from ustoolkit.export.signatures import ExportedGraph
from ustoolkit.files import write_json
from ustoolkit.inference.classifier import Decision
from ustoolkit.inference.diagnosis_graph import DiagnosisGraph
from ustoolkit.inference.graph import ANY_IMAGES, Member, SegmentationGraph
from ustoolkit.inference.saved_model import SavedModelSegmenter
from ustoolkit.inference.saved_model_operations import ALLOWED, SAVER, find_forbidden
from ustoolkit.models import build_model
from ustoolkit.recipe.settings import DataSettings, InferenceSettings

RAW = tf.raw_ops
METADATA = {"classes": ["background", "lesion"], "inference": {}, "signatures": {"serving_default": {}}}
# Each is given a folder, and would leave something in it, or read from it.
REFUSED = {
    "Save": lambda folder: RAW.Save(filename=f"{folder}/marker", tensor_names=["a"], data=[tf.ones([2])]),
    "SaveV2": lambda folder: RAW.SaveV2(
        prefix=f"{folder}/marker", tensor_names=["a"], shape_and_slices=[""], tensors=[tf.ones([2])]
    ),
    "RestoreV2": lambda folder: RAW.RestoreV2(
        prefix=f"{folder}/secret", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
    ),
    "MergeV2Checkpoints": lambda folder: RAW.MergeV2Checkpoints(
        checkpoint_prefixes=[f"{folder}/secret"], destination_prefix=f"{folder}/marker"
    ),
    "ImmutableConst": lambda folder: RAW.ImmutableConst(
        dtype=tf.uint8, shape=[6], memory_region_name=f"{folder}/secret"
    ),
    "ReadFile": lambda folder: tf.io.read_file(f"{folder}/secret"),
    "WriteFile": lambda folder: tf.io.write_file(f"{folder}/marker", "seen"),
    "MatchingFiles": lambda folder: tf.io.matching_files(f"{folder}/*"),
    "SummaryWriter": lambda folder: RAW.CreateSummaryFileWriter(
        writer=RAW.SummaryWriter(), logdir=f"{folder}/marker", max_queue=1, flush_millis=1, filename_suffix=""
    ),
    "DebugIdentityV2": lambda folder: RAW.DebugIdentityV2(
        input=tf.ones([]), tensor_debug_mode=1, debug_urls=[f"file://{folder}/marker"]
    ),
    "DebugIdentity": lambda folder: RAW.DebugIdentity(input=tf.ones([]), debug_urls=[f"file://{folder}/marker"]),
    "PrintV2": lambda folder: RAW.PrintV2(input="seen", output_stream=f"file://{folder}/marker"),
    "EagerPyFunc": lambda folder: tf.py_function((folder / "marker").touch, [], []),
    "TextFileToHashTable": lambda folder: RAW.InitializeTableFromTextFileV2(
        table_handle=RAW.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64),
        filename=f"{folder}/secret",
        key_index=-2,
        value_index=-1,
    ),
}
# Where the test names what it tries, and TensorFlow meets another operation first.
FIRST = {"SummaryWriter": "SummaryWriter", "TextFileToHashTable": "HashTableV2"}


class Model(tf.Module):
    """Takes images as an export does, and does one thing more."""

    def __init__(self, extra=lambda: None):
        super().__init__()
        self.extra = extra
        self.weight = tf.Variable(1.0)

    @tf.function(input_signature=[ANY_IMAGES])
    def segment(self, images):
        self.extra()
        return {"probability": tf.cast(images, tf.float32) * self.weight}


def saved(model, folder):
    """An export's folder around a model."""
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.segment.get_concrete_function()})
    write_json(folder / "metadata.json", METADATA)
    return folder


def content_of(folder):
    content = SavedModel()
    content.ParseFromString((folder / "saved_model.pb").read_bytes())
    return content


def assert_refused(folder, found):
    with pytest.raises(RunError, match=rf"expected a model that computes only, found {found}") as caught:
        SavedModelSegmenter(folder)
    assert str(folder) in str(caught.value) and "ustoolkit export" in str(caught.value)


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return saved(Model(), tmp_path_factory.mktemp("harmless") / "model")


@pytest.fixture
def changed(harmless, tmp_path):
    """Writes the harmless model anew after a change to its content."""

    def write(change):
        folder, content = shutil.copytree(harmless, tmp_path / "changed"), content_of(harmless)
        change(content.meta_graphs[0])
        (folder / "saved_model.pb").write_bytes(content.SerializeToString())
        return folder

    return write


def saver_call(meta, name):
    """The call of the function that saves, or restores."""
    (found,) = [node for node in meta.graph_def.node if name in node.attr["f"].func.name]
    return found


def test_what_computes_only_is_loaded(harmless):
    image = np.full((2, 3, 1), 7, np.uint8)
    (found,) = SavedModelSegmenter(harmless).probabilities([image])
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("name", REFUSED)
def test_operations_that_reach_beyond_the_model_are_refused(name, tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = saved(Model(lambda: REFUSED[name](tmp_path)), tmp_path / "model")
    assert_refused(folder, f"the operation {FIRST.get(name, name)}")
    assert not list(tmp_path.glob("marker*"))


def test_nothing_runs_while_a_model_is_loaded(tmp_path):
    marker = tmp_path / "marker"

    class Resource(TrackableResource):
        def _create_resource(self):
            return RAW.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="table")

        def _initialize(self):
            RAW.Save(filename=str(marker), tensor_names=["a"], data=[tf.ones([2])])

    model = Model()
    model.resource = Resource()
    folder = saved(model, tmp_path / "model")
    shutil.rmtree(marker, ignore_errors=True)
    marker.unlink(missing_ok=True)
    assert_refused(folder, "the operation (Save|MutableHashTableV2)")
    assert not marker.exists()
    tf.saved_model.load(str(folder))
    assert marker.exists(), "the model should have been one that writes when it is loaded"


def test_an_operation_within_a_branch_is_seen(tmp_path):
    def extra():
        tf.cond(tf.random.stateless_uniform([], [1, 2]) > 2, lambda: REFUSED["Save"](tmp_path), tf.no_op)

    assert_refused(saved(Model(extra), tmp_path / "model"), "the operation Save")


def test_the_saver_is_refused_where_something_else_calls_it(changed):
    def called_by_a_function(meta):
        function = next(one for one in meta.graph_def.library.function if "signature" in one.signature.name)
        node = function.node_def.add(name="again", op="StatefulPartitionedCall")
        node.attr["f"].func.name = saver_call(meta, "restore").attr["f"].func.name

    assert_refused(changed(called_by_a_function), "the operation RestoreV2")


@pytest.mark.parametrize("way", ["object", "initializer", "node", "signature", "input", "absent"])
def test_the_saver_is_refused_where_loading_or_a_signature_reaches_it(changed, way):
    def reached(meta):
        call = saver_call(meta, "save")
        name = call.attr["f"].func.name
        if way == "object":
            meta.object_graph_def.concrete_functions[name].SetInParent()
        elif way == "initializer":
            meta.object_graph_def.nodes.add().bare_concrete_function.concrete_function_name = name
        elif way == "node":
            meta.graph_def.node.add(name="again", op="PartitionedCall").attr["f"].func.name = name
        elif way == "signature":
            meta.signature_def["serving_default"].outputs["more"].name = f"{call.name}:0"
        elif way == "input":
            meta.graph_def.node.add(name="again", op="Identity", input=[f"^{call.name}"])
        else:
            meta.ClearField("saver_def")

    assert_refused(changed(reached), f"the operation ({'|'.join(SAVER)})")


def test_even_the_saver_may_do_no_more_than_that(changed):
    def reads(meta):
        name = saver_call(meta, "restore").attr["f"].func.name
        function = next(one for one in meta.graph_def.library.function if one.signature.name == name)
        function.node_def.add(name="look", op="ReadFile")

    assert_refused(changed(reads), "the operation ReadFile")


def test_models_whose_saver_runs_at_loading_are_refused(changed):
    assert_refused(changed(lambda meta: meta.ClearField("object_graph_def")), "a SavedModel of TensorFlow 1")


def test_the_list_holds_operations_that_exist_and_name_no_file():
    for name in ALLOWED | SAVER:
        assert op_def_registry.get(name) is not None, name
    for name in ALLOWED:
        definition = op_def_registry.get(name)
        arguments = {argument.name for argument in (*definition.input_arg, *definition.attr)}
        assert not {one for one in arguments if "file" in one or "path" in one or "url" in one or one == "prefix"}, name
    assert not ALLOWED & SAVER


def segmentation(name, outputs, data=None, **inference):
    recipe = small(name)
    data = data or recipe.data
    model = build_model(recipe.model_copy(update={"data": data}), outputs)
    return SegmentationGraph([Member(model, data)], InferenceSettings(**inference))


def assert_passes(graph, folder):
    folder.mkdir()
    write_saved_model(ExportedGraph(graph), folder)
    assert find_forbidden(content_of(folder)) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_passes(name, tmp_path):
    assert_passes(segmentation(name, 2), tmp_path / "model")


@pytest.mark.slow
def test_a_diagnosis_passes(tmp_path):
    recipe, decision = small("densenet161"), Decision(1.5, 0.5, {})
    graph = DiagnosisGraph(segmentation("unet", 2), build_model(recipe, 3), recipe, decision, ["a", "b", "c"])
    assert_passes(graph, tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_passes(name, tmp_path):
    module, recipe = tf.Module(), small(name)
    module.model = build_model(recipe, 2)
    images = tf.TensorSpec([None, *recipe.data.image_size, recipe.data.channels], tf.float32)
    call = tf.function(lambda pixels: {"logits": module.model(pixels, training=False)}, input_signature=[images])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": call.get_concrete_function()})
    assert find_forbidden(content_of(tmp_path)) is None


@pytest.mark.slow
@pytest.mark.parametrize("outputs", [2, 3])
def test_all_that_is_done_to_masks_passes(outputs, tmp_path):
    settings = {"fill_holes": True, "opening_radius_pixels": 2, "smallest_region_pixels": 5}
    assert_passes(segmentation("unet", outputs, flips="both", **settings), tmp_path / "all")
    grey = DataSettings(image_size=(32, 48), channels=1, keep_aspect=True)
    assert_passes(segmentation("unet", outputs, grey, flips="horizontal", largest_component=False), tmp_path / "grey")
