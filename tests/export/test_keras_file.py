"""The Keras file: what is in it, that Keras loads it, and that it segments as the run does."""

import io
import json
import zipfile

import numpy as np
import pytest
import tf_keras as keras

from tests.inference.keras_files import write_ours
from tests.models.networks import SEGMENTERS, randomized, small
from ustoolkit.errors import RunError
from ustoolkit.export.keras_file import KerasWriter
from ustoolkit.inference.graph import Member, SegmentationGraph
from ustoolkit.inference.keras_segmenter import KerasSegmenter
from ustoolkit.inference.run_segmenter import GraphSegmenter, RunSegmenter
from ustoolkit.inference.segmenter import load_segmenter
from ustoolkit.models import build_model
from ustoolkit.models.load import load_model
from ustoolkit.recipe.settings import InferenceSettings
from ustoolkit.recipe.toml import load_recipe


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, shape, np.uint8) for shape in [(32, 32, 1), (50, 90, 3), (33, 20, 1), (1, 7, 3)]]


@pytest.fixture(scope="module")
def inference():
    return InferenceSettings(threshold=0.375, smallest_region_pixels=3)


@pytest.fixture(scope="module")
def written(trained_run, inference, tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    metadata = {"classes": trained_run.classes, "inference": inference.model_dump(mode="json"), "score": float("nan")}
    write_ours(trained_run, metadata, "# A card, größer\n", path)
    return path


def test_it_segments_as_the_run(trained_run, written, inference, images):
    found, run = load_segmenter(written), RunSegmenter(trained_run)
    assert isinstance(found, KerasSegmenter) and found.classes == trained_run.classes
    assert found.inference == inference != run.inference
    assert found.splits_of(trained_run.manifest["digest"]) is None
    for image, ours, theirs in zip(images, found.probabilities(images), run.probabilities(images), strict=True):
        assert ours.shape == (*image.shape[:2], 1) and ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_keras_loads_it_and_leaves_the_descriptions_alone(trained_run, written):
    loaded = keras.models.load_model(written, safe_mode=True)
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    np.testing.assert_array_equal(loaded(pixels), load_model(trained_run)(pixels))


def test_recipe_metadata_and_card_are_inside(trained_run, written, tmp_path):
    with zipfile.ZipFile(written) as archive:
        assert archive.testzip() is None and len(set(archive.namelist())) == 6
        metadata = json.loads(archive.read("ustoolkit/metadata.json"))
        (tmp_path / "recipe.toml").write_bytes(archive.read("ustoolkit/recipe.toml"))
        assert archive.read("ustoolkit/model_card.md").decode() == "# A card, größer\n"
    assert metadata["classes"] == trained_run.classes and metadata["score"] is None
    assert load_recipe(tmp_path / "recipe.toml") == trained_run.recipe


def test_the_writer_describes_what_it_converted_again(trained_run):
    graph = SegmentationGraph([Member(load_model(trained_run), trained_run.recipe.data)], InferenceSettings())
    content = KerasWriter().convert(graph, [trained_run])
    files = [KerasWriter().pack(content, {"score": score}, "") for score in (0, 1)]
    for score, file in enumerate(files):
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            assert json.loads(archive.read("ustoolkit/metadata.json"))["score"] == score
            assert archive.testzip() is None


def test_several_networks_are_refused(trained_run):
    member = Member(load_model(trained_run), trained_run.recipe.data)
    with pytest.raises(RunError, match=r"model\.keras: expected one run, found 2"):
        KerasWriter().convert(SegmentationGraph([member, member], InferenceSettings()), [trained_run, trained_run])


class RunOf:
    """What the writer reads of a run, for networks that nothing trained."""

    def __init__(self, recipe):
        self.recipe = recipe


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in SEGMENTERS), ("unet", {"stem": 4})])
def test_every_network_comes_back(name, settings, classes, tmp_path):
    recipe = small(name, **settings)
    graph = SegmentationGraph([Member(randomized(build_model(recipe, classes)), recipe.data)], InferenceSettings())
    names = ["background", "lesion", "cyst"][:classes]
    metadata = {"classes": names, "inference": InferenceSettings().model_dump(mode="json")}
    path = tmp_path / "model.keras"
    path.write_bytes(KerasWriter().pack(KerasWriter().convert(graph, [RunOf(recipe)]), metadata, ""))
    images = [np.random.default_rng(2).integers(0, 256, (70, 50, 3), np.uint8)]
    (expected,) = GraphSegmenter(graph, names).probabilities(images)
    (found,) = KerasSegmenter(path).probabilities(images)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5)
