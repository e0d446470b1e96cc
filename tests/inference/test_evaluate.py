"""Evaluation without the CRF and with it, of one pass of the network."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ustoolkit.cli import main
from ustoolkit.errors import RunError
from ustoolkit.evaluation.confusion import agreement, confusion_matrix
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.files import read_json
from ustoolkit.inference.crf import refine, with_crf
from ustoolkit.inference.evaluate import difference_in_dice, evaluate_run
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.inference.run_segmenter import RunSegmenter
from ustoolkit.recipe import dump_toml
from ustoolkit.run import Run


@pytest.fixture
def run(trained_run, tmp_path):
    """A copy of the trained run, whose recipe may be changed."""
    return Run(shutil.copytree(trained_run.folder, tmp_path / "run"))


def changed(run: Run, **inference: object) -> Run:
    """The run with other settings of inference in its recipe."""
    settings = run.recipe.inference.model_copy(update=inference)
    (run.folder / "recipe.toml").write_text(dump_toml(run.recipe.model_copy(update={"inference": settings})))
    return Run(run.folder)


def strong(run: Run, enabled: bool = False) -> Run:
    """The run with a CRF that changes masks."""
    crf = run.recipe.inference.crf.model_copy(
        update={"enabled": enabled, "appearance_weight": 15.0, "intensity_deviation": 25.0}
    )
    return changed(run, crf=crf)


def metrics_of(folder: Path) -> dict:
    """What metrics.json holds."""
    return read_json(folder / "metrics.json", RunError, "")


def test_without_the_crf_there_is_one_evaluation(run, records):
    folders = evaluate_run(run, records)
    assert folders == [run.evaluation("test")] and not run.evaluation("test-crf").exists()
    assert metrics_of(folders[0])["settings"]["crf"]["enabled"] is False


@pytest.mark.parametrize(("enabled", "asked", "expected"), [(True, None, 2), (False, True, 2), (True, False, 1)])
def test_the_caller_comes_before_the_recipe(run, records, enabled, asked, expected):
    folders = evaluate_run(strong(run, enabled), records, crf=asked, workers=1)
    assert folders == [run.evaluation("test"), run.evaluation("test-crf")][:expected]


def test_with_the_crf_both_are_of_the_same_probabilities(run, records):
    run = strong(run)
    before = evaluate_run(run, records)[0]
    plain = {path.name: path.read_bytes() for path in before.rglob("*") if path.is_file()}
    without, with_it = evaluate_run(run, records, crf=True, workers=2)
    assert plain == {path.name: path.read_bytes() for path in without.rglob("*") if path.is_file()}

    segmenter, inference = RunSegmenter(run), with_crf(run.inference, True)
    samples = list(records.read(run.splits["test"]))
    probabilities = segmenter.probabilities([sample.image for sample in samples])
    counts = 0
    for sample, row, probability in zip(samples, read_rows(with_it), probabilities, strict=True):
        mask = to_mask(refine(probability, sample.image, inference.crf), inference)
        assert row["source_id"] == sample.source_id and row["predicted_pixels"] == np.count_nonzero(mask)
        counts = counts + confusion_matrix(sample.mask, mask, 2)
    assert [row["dice"] for row in read_rows(without)] != [row["dice"] for row in read_rows(with_it)]
    settings, confusion = metrics_of(with_it)["settings"], metrics_of(with_it)["confusion"]
    assert settings["crf"] == inference.crf.model_dump(mode="json")
    assert confusion["matrix"] == counts.tolist() and confusion["classes"] == ["background", "lesion"]
    assert confusion["mean_iou"] == pytest.approx(agreement(counts)["mean_iou"])
    assert len(list((with_it / "masks").glob("*.png"))) == len(samples)


def test_the_confusion_counts_the_tables_pixels(run, records):
    folder = evaluate_run(run, records)[0]
    matrix, rows = np.array(metrics_of(folder)["confusion"]["matrix"]), read_rows(folder)
    assert matrix[1].sum() == sum(row["truth_pixels"] for row in rows)
    assert matrix[:, 1].sum() == sum(row["predicted_pixels"] for row in rows)


def test_names_say_what_differs(run, records):
    run = changed(run, largest_component=True)
    names = [folder.name for folder in evaluate_run(run, records, "validation", largest_component=False, crf=True)]
    assert names == ["validation-all-components", "validation-all-components-crf"]
    assert metrics_of(run.evaluation(names[1]))["settings"]["largest_component"] is False


def test_the_difference_is_that_of_the_tables(run, records):
    without, with_it = evaluate_run(strong(run), records, crf=True, workers=1)
    pairs = zip(read_rows(with_it), read_rows(without), strict=True)
    by_hand = [first["dice"] - second["dice"] for first, second in pairs]
    found = difference_in_dice(without, with_it)
    assert list(found) == ["lesion"] and found["lesion"].images == len(by_hand)
    assert found["lesion"].mean == pytest.approx(np.nanmean(by_hand))
    assert found["lesion"].interval_low <= found["lesion"].mean <= found["lesion"].interval_high
    other = evaluate_run(run, records, "validation")[0]
    with pytest.raises(RunError, match="expected scores of the images"):
        difference_in_dice(other, with_it)


def test_an_evaluation_that_fails_leaves_the_earlier_ones(run, records):
    folders = evaluate_run(strong(run), records, crf=True, workers=1)
    earlier = [metrics_of(folder) for folder in folders]
    run.best_weights.write_bytes(b"no weights")
    with pytest.raises(RunError):
        evaluate_run(run, records, crf=True)
    assert [metrics_of(folder) for folder in folders] == earlier
    assert sorted(path.name for path in run.evaluation("test").parent.iterdir()) == ["test", "test-crf"]


def test_the_command_prints_both_and_what_the_crf_changes(run, records, capsys):
    run = strong(run)
    words = ["evaluate", str(run.folder), "--records", str(records.folder), "--crf", "--workers", "1"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.index("WITHOUT THE CRF") < text.index("WITH THE CRF")
    assert any(text.rstrip().endswith(verdict) for verdict in ("better", "worse", "undecided"))
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["folder"] == str(run.evaluation("test"))
    assert result["with_crf"]["folder"] == str(run.evaluation("test-crf"))
    difference = result["with_crf"]["difference_in_dice"]["lesion"]
    assert difference["verdict"] in ("better", "worse", "undecided")
    scores = [found["classes"]["lesion"]["dice"]["mean"] for found in (result["with_crf"], result)]
    assert difference["mean"] == pytest.approx(scores[0] - scores[1])
    assert main([*words[:-3], "--no-crf"]) == 0
    assert "CRF" not in capsys.readouterr().out


def test_the_probability_of_each_image_is_kept_small(run, records):
    without, with_it = evaluate_run(strong(run), records, crf=True, workers=1)
    largest = max(run.recipe.data.image_size)
    samples = list(records.read(run.splits["test"]))
    probabilities = RunSegmenter(run).probabilities([sample.image for sample in samples])
    for sample, probability in zip(samples, probabilities, strict=True):
        name = f"probabilities/{sample.source_id}.png"
        kept = np.asarray(Image.open(without / name))
        assert kept.dtype == np.uint8 and max(kept.shape) <= largest < max(sample.image.shape)
        assert kept.mean() / 255 == pytest.approx(probability.mean(), abs=0.01)
        assert (with_it / name).read_bytes() != (without / name).read_bytes()
