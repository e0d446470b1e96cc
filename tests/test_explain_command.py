"""Explain, on the command line: layers, images and comparisons, with right and wrong input."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.classifiers import BOTTLENECK, FINE_TUNING, MEASURES, trained
from tests.test_cli import call, refused
from ustoolkit.run import Run

SHORT = ("--filters", 2, "--steps", 3)
LAYERS = ("--layers", "decoder0_conv2,encoder0_conv1")


@pytest.fixture(scope="module")
def own_run(trained_run, tmp_path_factory):
    """A copy of the run, which tests may write into."""
    folder = tmp_path_factory.mktemp("explained") / "run"
    shutil.copytree(trained_run.folder, folder)
    return Run(folder)


@pytest.fixture
def image(phantom_folder):
    return sorted((phantom_folder / "images").iterdir())[0]


@pytest.fixture
def annotated(phantom_folder, tmp_path):
    """A folder of one image and its mask."""
    name = sorted((phantom_folder / "images").iterdir())[0].name
    for kind in ("images", "masks"):
        (tmp_path / "annotated" / kind).mkdir(parents=True)
        shutil.copy(phantom_folder / kind / name, tmp_path / "annotated" / kind / name)
    return tmp_path / "annotated"


def test_layers_are_shown_from_the_first_to_the_deepest_and_in_the_report(capsys, own_run):
    code, out, err = call(capsys, "explain", own_run.folder, *LAYERS, *SHORT, "--json")
    assert code == 0, err
    content = json.loads(out)
    assert [row["layer"] for row in content["layers"]] == ["encoder0_conv1", "decoder0_conv2"]
    first, last = content["layers"]
    assert first["receptive_field"] == [3, 3] and last["receptive_field"][0] > 20
    assert first["shown"] == [0, 3] and len(first["activations"]) == 2 and first["filters"] == 4
    folder = own_run.explanation
    assert json.loads((folder / "explanation.json").read_text())["layers"] == content["layers"]
    for name in ("poster.png", "statistics.png", *first["grids"], *last["grids"]):
        assert min(Image.open(folder / name).size) > 100
    assert call(capsys, "evaluate", own_run.folder)[0] == 0
    assert call(capsys, "report", own_run.folder)[0] == 0
    page = (own_run.folder / "report.html").read_text()
    assert 'id="explanation"' in page and "encoder0_conv1" in page and page.count("data:image/png;base64,") >= 2
    state = json.loads((own_run.folder / "run.json").read_text())
    (own_run.folder / "run.json").write_text(json.dumps({**state, "best_epoch": 99}))
    assert call(capsys, "report", own_run.folder)[0] == 0
    assert "best is now epoch 99" in (own_run.folder / "report.html").read_text()
    (folder / "poster.png").unlink()
    assert "poster.png" in refused(capsys, "report", own_run.folder)
    (folder / "explanation.json").write_text('{"layers": [{}]}')
    assert "explain RUN --overwrite" in refused(capsys, "report", own_run.folder)


@pytest.mark.slow
def test_a_network_compared_with_itself_has_not_moved(capsys, trained_run, tmp_path):
    words = ("explain", trained_run.folder, *LAYERS, *SHORT, "--compare", trained_run.folder, "--out", tmp_path / "out")
    code, out, err = call(capsys, *words, "--json")
    assert code == 0, err
    for change in json.loads(out)["changes"]:
        assert change["weight_distance"] == 0 and change["cka"] == pytest.approx(1)
        assert change["cka_untrained"] < 0.999
    assert (tmp_path / "out" / "changes.png").is_file()
    assert (tmp_path / "out" / "layers" / "encoder0_conv1_before_and_after.png").is_file()


def test_keras_vis_draws_the_same_layers(capsys, trained_run, tmp_path):
    words = ("explain", trained_run.folder, "--layers", "encoder1_conv1", *SHORT, "--engine", "keras-vis")
    code, out, err = call(capsys, *words, "--backprop", "guided", "--out", tmp_path / "out", "--json")
    assert code == 0, err
    assert json.loads(out)["engine"] == "keras-vis"
    assert (tmp_path / "out" / "layers" / "encoder1_conv1.png").is_file()


def test_a_region_of_an_image_is_explained(capsys, trained_run, image, tmp_path):
    words = ("explain", trained_run.folder, "--image", image, "--target", "lesion", "--region", 10, 10, 30, 20)
    code, out, err = call(capsys, *words, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    content = json.loads(out)
    (row,) = content["explained"]
    assert "layers" not in content and "over the region" in row["target"]
    assert min(Image.open(tmp_path / "out" / row["panel"]).size) > 100


@pytest.mark.slow
def test_the_explanation_of_an_image_is_tested(capsys, trained_run, image, tmp_path):
    words = ("explain", trained_run.folder, "--image", image, "--sanity")
    code, out, err = call(capsys, *words, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    (row,) = json.loads(out)["explained"]
    assert set(row["sanity"]) == {"Grad-CAM", "integrated gradients", "occlusion"}
    for name in (row["panel"], *(found["figure"] for found in row["sanity"].values())):
        assert min(Image.open(tmp_path / "out" / name).size) > 100


def test_a_region_smaller_than_a_pixel_of_the_network_is_refused(capsys, trained_run, tmp_path):
    Image.fromarray(np.full((600, 600), 90, np.uint8)).save(tmp_path / "large.png")
    words = ("--image", tmp_path / "large.png", "--region", 301, 301, 1, 1, "--out", tmp_path / "out")
    assert "less than a pixel" in refused(capsys, "explain", trained_run.folder, *words)


def test_keras_vis_explains_images_too(capsys, trained_run, image, tmp_path):
    words = ("explain", trained_run.folder, "--image", image, "--engine", "keras-vis", "--out", tmp_path / "out")
    code, out, err = call(capsys, *words)
    assert code == 0, err
    assert "over the image" in out


@pytest.mark.slow
def test_a_classifier_that_takes_the_mask_too(capsys, labelled_records, annotated, tmp_path):
    run = trained(labelled_records, FINE_TUNING, "classification.region.mask_channel=true")
    words = ("explain", run.folder, "--layers", "conv0,logits_dense", *SHORT, "--image", annotated, "--json")
    code, out, err = call(capsys, *words, "--out", tmp_path / "out")
    assert code == 0, err
    content = json.loads(out)
    assert len(content["layers"]) == 2 and len(content["explained"]) == 1


@pytest.mark.slow
def test_keras_vis_asks_a_classifier_for_its_positive_label(capsys, labelled_records, annotated, tmp_path):
    run = trained(labelled_records, FINE_TUNING)
    words = ("explain", run.folder, "--image", annotated, "--engine", "keras-vis", "--json", "--out", tmp_path / "out")
    code, out, err = call(capsys, *words)
    assert code == 0, err
    assert "malignant" in json.loads(out)["explained"][0]["target"]


@pytest.mark.parametrize(
    "form", [FINE_TUNING, BOTTLENECK, pytest.param(MEASURES, marks=pytest.mark.slow)], ids=lambda form: form[0]
)
def test_classifiers_are_explained_by_what_decides(capsys, labelled_records, annotated, tmp_path, form):
    run = trained(labelled_records, form)
    code, out, err = call(capsys, "explain", run.folder, "--image", annotated, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    (row,) = json.loads(out)["explained"]
    assert any(label in row["target"] for label in run.labels)
    if form is not FINE_TUNING:
        assert 0 <= row["score"] <= 1
        message = refused(capsys, "explain", run.folder, "--image", annotated, "--sanity", "--out", tmp_path / "other")
        assert "only occlusion" in message


def test_a_classifier_finds_its_lesion_by_a_segmenter(capsys, labelled_records, trained_run, image, tmp_path):
    run = trained(labelled_records, FINE_TUNING)
    alone = tmp_path / "alone.png"
    shutil.copy(image, alone)
    assert "--segmenter" in refused(capsys, "explain", run.folder, "--image", alone, "--out", tmp_path / "no")
    words = ("explain", run.folder, "--image", alone, "--segmenter", trained_run.folder, "--out", tmp_path / "out")
    code, _, err = call(capsys, *words)
    assert code == 0, err


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_explained(capsys, trained_run, image, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    words = (
        "explain",
        trained_run.folder,
        "--image",
        broken,
        image,
        "--engine",
        "keras-vis",
        "--out",
        tmp_path / "out",
    )
    code, _, err = call(capsys, *words)
    assert code == 0 and "broken.png" in err
    assert len(list((tmp_path / "out" / "images").iterdir())) == 1


def test_without_records_there_are_no_statistics_but_pictures(capsys, own_run, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(own_run.folder, moved)
    state = json.loads((moved / "run.json").read_text())
    (moved / "run.json").write_text(json.dumps({**state, "records": str(tmp_path / "gone")}))
    code, out, err = call(capsys, "explain", moved, "--layers", "encoder0_conv1", *SHORT, "--out", tmp_path / "out")
    assert code == 0 and "no statistics" in err
    assert "encoder0_conv1" in out and not (tmp_path / "out" / "statistics.png").exists()


def test_wrong_input_is_answered(capsys, trained_run, labelled_records, image, tmp_path):
    out = ("--out", tmp_path / "out")

    def explain(*words):
        return refused(capsys, "explain", *words, *out)

    run = trained_run.folder
    assert "encoder1_conv1" in explain(run, "--layers", "encodr1_conv1", *SHORT)
    assert "found none" in explain(run, "--layers", ",", *SHORT)
    assert "Did you mean 'lesion'" in explain(run, "--image", image, "--target", "lesoin")
    assert "64 wide" in explain(run, "--image", image, "--region", 100, 0, 5, 5)
    assert "results there would be taken" in refused(
        capsys, "explain", run, "--image", image.parent, "--out", image.parent / "why"
    )
    assert "--engine keras-vis" in explain(run, "--backprop", "guided")
    assert "--parametrization" in explain(
        run, "--engine", "keras-vis", "--scales", 2, "--layers", "encoder0_conv1", *SHORT
    )
    assert "--image" in explain(run, "--sanity")
    assert "--layers" in explain(run, "--image", image, "--compare", run)
    assert "found nothing" in explain(tmp_path / "nowhere")
    assert "expected 1 to 256" in explain(run, "--filters", 0)
    assert "at least 1 pixel" in explain(run, "--image-size", 0)
    assert "2147483647" in explain(run, "--layers", "encoder0_conv1", "--filters", 1, "--seed", 3000000000)
    assert "decoder0_conv2" in explain(run, "--image", image, "--cam-layer", "decoder0_conv22")
    assert "has no layers" in explain(trained(labelled_records, MEASURES).folder, "--layers", "all")
    other = trained(labelled_records, FINE_TUNING).folder
    assert "Compare runs of one network" in explain(run, *LAYERS, *SHORT, "--compare", other)
    assert "segments" in explain(run, "--image", image, "--segmenter", run)
    assert not (tmp_path / "out").exists()


def test_what_was_there_stays(capsys, trained_run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    words = ("explain", trained_run.folder, *LAYERS, *SHORT, "--out", tmp_path / "mine")
    assert "not empty" in refused(capsys, *words)
    assert "explanation.json" in refused(capsys, *words, "--overwrite")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
