"""Prediction and evaluation of a trained run, on files, folders and records."""

import shutil
from copy import copy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ustoolkit.data.image_files import read_image
from ustoolkit.data.records import Records
from ustoolkit.errors import DataError, OutputError, RecordsError, RunError
from ustoolkit.evaluation.overlap import dice
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.files import read_json, write_json
from ustoolkit.inference.crf import refine, with_crf
from ustoolkit.inference.evaluate import evaluate_run
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.inference.predict import predict_paths
from ustoolkit.inference.segmenter import load_segmenter
from ustoolkit.run import Run


@pytest.fixture(scope="module")
def segmenter(trained_run):
    return load_segmenter(trained_run.folder)


def with_settings(segmenter, **crf):
    """The segmenter with other settings of the CRF."""
    changed = copy(segmenter)
    settings = segmenter.inference.crf.model_copy(update=crf)
    changed.inference = segmenter.inference.model_copy(update={"crf": settings})
    return changed


@pytest.fixture
def odd_images(tmp_path):
    """Files as people have them: colour, grey, transparent, wide, tiny, and two that are no images."""
    folder = tmp_path / "odd"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 90, 3), np.uint8)).save(folder / "colour.png")
    Image.fromarray(rng.integers(0, 255, (33, 17), np.uint8)).save(folder / "grey.jpg")
    Image.fromarray(rng.integers(0, 255, (50, 50, 4), np.uint8)).save(folder / "transparent.png")
    Image.fromarray(rng.integers(0, 255, (1, 1), np.uint8)).save(folder / "one_pixel.png")
    (folder / "text.png").write_text("no image")
    (folder / "short.png").write_bytes((folder / "colour.png").read_bytes()[:500])
    return folder


def test_masks_and_overlays_have_the_size_of_their_image(segmenter, odd_images, tmp_path):
    result = predict_paths(segmenter, [odd_images], tmp_path / "out")
    assert sorted(path.name for path in result.written) == [
        "colour_mask.png",
        "grey_mask.png",
        "one_pixel_mask.png",
        "transparent_mask.png",
    ]
    for path in result.written:
        image = next(odd_images.glob(path.name.replace("_mask.png", ".*")))
        mask = np.asarray(Image.open(path))
        assert mask.shape == read_image(image).shape[:2] and set(np.unique(mask)) <= {0, 255}
        overlay = np.asarray(Image.open(path.with_name(path.name.replace("_mask", "_overlay"))))
        assert overlay.shape == (*mask.shape, 3)
    assert len(result.refused) == 2
    assert any("text.png" in reason for reason in result.refused)


def test_probabilities_do_not_depend_on_the_batch(segmenter, records):
    images = [sample.image for sample in records.read()][:11]
    together = list(segmenter.probabilities(images))
    for image, probability in zip(images, together, strict=True):
        alone = next(segmenter.probabilities([image]))
        assert probability.shape == (*image.shape[:2], 1)
        np.testing.assert_allclose(probability, alone, atol=1e-5)
        assert 0 <= probability.min() <= probability.max() <= 1


def test_a_folder_with_masks_shows_the_truth(segmenter, phantom_folder, tmp_path):
    from ustoolkit.inference.overlay import TRUTH_COLOUR

    result = predict_paths(segmenter, [phantom_folder], tmp_path / "out")
    assert len(result.written) == 30
    overlays = [np.asarray(Image.open(path)) for path in (tmp_path / "out").glob("*_overlay.png")]
    assert sum((overlay == TRUTH_COLOUR).all(-1).any() for overlay in overlays) > 20


def test_names_that_meet_are_kept_apart(segmenter, odd_images, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(other / "colour.png")
    files = [odd_images / "colour.png", other / "colour.png"]
    result = predict_paths(segmenter, files, tmp_path / "out")
    assert [path.name for path in result.written] == ["colour_mask.png", "colour_2_mask.png"]
    assert Image.open(result.written[1]).size == (20, 20)


def test_a_part_of_records_is_predicted(segmenter, trained_run, records, tmp_path):
    result = predict_paths(segmenter, [records.folder], tmp_path / "out", "test")
    expected = {f"{source_id}_mask.png" for source_id in trained_run.splits["test"]}
    assert {path.name for path in result.written} == expected


def test_a_part_is_the_runs_own_whatever_split_was_drawn_since(segmenter, trained_run, records, tmp_path):
    from ustoolkit.data.split import split_patients, write_splits

    copy = Path(shutil.copytree(records.folder, tmp_path / "records"))
    write_splits(copy / "splits.json", split_patients(records.index, seed=77), {})
    result = predict_paths(segmenter, [copy], tmp_path / "out", "test")
    assert {path.name for path in result.written} == {f"{name}_mask.png" for name in trained_run.splits["test"]}


def test_annotations_and_earlier_predictions_are_never_written_over(segmenter, phantom_folder, tmp_path):
    data = Path(shutil.copytree(phantom_folder, tmp_path / "data"))
    for out in (data, data / "masks", data / "new"):
        with pytest.raises(OutputError, match="Choose another --out"):
            predict_paths(segmenter, [data], out)
    image = data / "images" / "phantom_0001.png"
    with pytest.raises(OutputError, match="not empty"):
        predict_paths(segmenter, [image], data / "masks")
    with pytest.raises(OutputError, match=r"predictions\.json"):
        predict_paths(segmenter, [image], data / "masks", overwrite=True)
    predict_paths(segmenter, [data], tmp_path / "out")
    with pytest.raises(OutputError, match="--overwrite"):
        predict_paths(segmenter, [image], tmp_path / "out")
    predict_paths(segmenter, [image], tmp_path / "out", overwrite=True)
    assert len(list((tmp_path / "out").glob("*_mask.png"))) == 1
    for path in phantom_folder.rglob("*.png"):
        assert (data / path.relative_to(phantom_folder)).read_bytes() == path.read_bytes()


def test_an_image_is_predicted_though_its_mask_cannot_be_read(segmenter, phantom_folder, tmp_path):
    data = Path(shutil.copytree(phantom_folder, tmp_path / "data"))
    (data / "masks" / "phantom_0001.png").write_text("no mask")
    result = predict_paths(segmenter, [data], tmp_path / "out")
    assert len(result.written) == 30 and not result.refused


@pytest.mark.parametrize("content", ["missing", "empty", "text only"])
def test_nothing_to_predict_says_so(segmenter, tmp_path, content):
    folder = tmp_path / "images"
    if content != "missing":
        folder.mkdir()
    if content == "text only":
        (folder / "a.png").write_text("no image")
    with pytest.raises(DataError, match="images" if content != "text only" else r"a\.png"):
        predict_paths(segmenter, [folder], tmp_path / "out")


def test_evaluation_scores_what_prediction_draws(trained_run, records):
    folder = evaluate_run(trained_run, records)[0]
    rows = read_rows(folder)
    assert [row["source_id"] for row in rows] == [
        row.source_id for row in records.index if row.source_id in set(trained_run.splits["test"])
    ]
    samples = {sample.source_id: sample for sample in records.read()}
    for row in rows:
        mask = np.asarray(Image.open(folder / "masks" / f"{row['source_id']}.png"))
        sample = samples[row["source_id"]]
        expected = dice(sample.mask > 0, mask > 0)
        assert row["dice"] == pytest.approx(expected, abs=1e-9)
        assert row["truth_pixels"] == np.count_nonzero(sample.mask) and row["predicted_pixels"] == np.count_nonzero(
            mask
        )
        again = to_mask(
            next(load_segmenter(trained_run.folder).probabilities([sample.image])),
            trained_run.inference,
        )
        assert dice(again > 0, mask > 0) > 0.99 or not again.any()
    metrics = read_json(folder / "metrics.json", RunError, "")
    assert metrics["images"] == len(rows)
    assert metrics["classes"]["lesion"]["dice"]["mean"] == pytest.approx(np.mean([row["dice"] for row in rows]))


def test_with_the_crf_both_masks_and_a_panel_are_written(segmenter, records, trained_run, tmp_path):
    sample = next(records.read(trained_run.splits["test"][:1]))
    name = sample.source_id
    plain = predict_paths(segmenter, [records.folder], tmp_path / "plain", "test", crf=False)
    strong = with_settings(segmenter, appearance_weight=20.0)
    refined = predict_paths(strong, [records.folder], tmp_path / "crf", "test", crf=True, workers=1)
    assert not plain.without_crf and not list((tmp_path / "plain").glob("*without_crf*"))
    assert len(refined.without_crf) == len(refined.written) == len(refined.panels) == len(plain.written)
    for path in refined.without_crf:
        before = tmp_path / "plain" / path.name.replace("_without_crf", "")
        assert path.read_bytes() == before.read_bytes()
    probability = next(segmenter.probabilities([sample.image]))
    inference = with_crf(strong.inference, True)
    expected = to_mask(refine(probability, sample.image, inference.crf), inference)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "crf" / f"{name}_mask.png")), expected * 255)
    changed = [path.read_bytes() != (tmp_path / "plain" / path.name).read_bytes() for path in refined.written]
    assert any(changed)
    without, with_it = (Image.open(tmp_path / folder / f"{name}_panel.png").width for folder in ("plain", "crf"))
    assert with_it > without > 3 * sample.image.shape[1]
    listed = read_json(tmp_path / "crf" / "predictions.json", RunError, "")
    assert listed["masks_without_crf"] == [path.name for path in refined.without_crf]
    assert listed["panels"] == [path.name for path in refined.panels]
    assert listed["inference"]["crf"] == inference.crf.model_dump(mode="json") and listed["inference"]["crf"]["enabled"]
    assert not read_json(tmp_path / "plain" / "predictions.json", RunError, "")["inference"]["crf"]["enabled"]


def test_the_crf_takes_images_of_any_size(segmenter, odd_images, tmp_path):
    result = predict_paths(segmenter, [odd_images], tmp_path / "out", crf=True, workers=2)
    assert len(result.written) == len(result.without_crf) == 4 and len(result.refused) == 2
    for path in (*result.written, *result.without_crf):
        assert set(np.unique(np.asarray(Image.open(path)))) <= {0, 255}


@pytest.mark.slow
def test_an_export_predicts_with_the_crf_where_its_settings_or_the_caller_say_so(
    segmenter, trained_run, odd_images, tmp_path
):
    from ustoolkit.export.exports import export_runs

    folder = export_runs([trained_run], tmp_path / "export")
    image = odd_images / "colour.png"
    without = load_segmenter(folder)
    assert not predict_paths(without, [image], tmp_path / "off").without_crf
    assert predict_paths(without, [image], tmp_path / "asked", crf=True).without_crf
    metadata = read_json(folder / "metadata.json", RunError, "")
    metadata["inference"]["crf"]["enabled"] = True
    write_json(folder / "metadata.json", metadata)
    with_it = load_segmenter(folder)
    assert predict_paths(with_it, [image], tmp_path / "on").without_crf
    assert not predict_paths(with_it, [image], tmp_path / "unasked", crf=False).without_crf
    ours = predict_paths(segmenter, [image], tmp_path / "ours", crf=True)
    assert ours.written[0].read_bytes() == (tmp_path / "on" / "colour_mask.png").read_bytes()


def test_other_records_are_scored_whole_and_never_what_was_trained_on(trained_run, records, tmp_path):
    from ustoolkit.data.phantom import write_phantoms
    from ustoolkit.data.readers import open_data_set
    from ustoolkit.data.records import write_records
    from ustoolkit.recipe import DataSetSettings

    settings = DataSetSettings()
    other = write_phantoms(tmp_path / "other_hospital", 5, seed=99, size=(48, 80))
    theirs = write_records(open_data_set(other, settings), tmp_path / "theirs", settings, workers=1)
    (folder,) = evaluate_run(trained_run, theirs, "all")
    assert folder.name == f"theirs-{theirs.digest[:8]}-all" and len(read_rows(folder)) == 5
    with pytest.raises(RecordsError, match="does not know"):
        predict_paths(load_segmenter(trained_run.folder), [theirs.folder], tmp_path / "masks", "test")
    with pytest.raises(RecordsError, match="--split all"):
        evaluate_run(trained_run, theirs, "test")
    copy = Records(records.folder)
    copy.manifest = {**copy.manifest, "digest": "as if converted elsewhere"}
    with pytest.raises(RecordsError, match="trained on"):
        evaluate_run(trained_run, copy, "all")


def test_a_run_without_weights_says_what_to_do(records, tmp_path, tiny_recipe):
    from ustoolkit.training.start import start_run

    run = start_run(tiny_recipe, records, tmp_path / "run")
    with pytest.raises(RunError, match=r"best\.weights\.h5"):
        load_segmenter(run.folder)


def test_damaged_weights_are_named(trained_run, tmp_path):
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(trained_run.folder, copy)
    Run(copy).best_weights.write_bytes(b"no weights")
    with pytest.raises(RunError, match="damaged"):
        load_segmenter(copy)


@pytest.mark.parametrize("kind", ["missing", "folder", "file"])
def test_what_is_no_model_is_refused(tmp_path, kind):
    path = tmp_path / "model"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("no model")
    with pytest.raises(RunError, match="expected a run folder, an exported SavedModel"):
        load_segmenter(path)
