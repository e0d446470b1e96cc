"""Diagnoses: what is found and judged in images, what is written of it, and what is refused."""

import csv
import shutil
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.classifiers import FINE_TUNING, MEASURES, trained
from ustoolkit.data.image_files import encode_png
from ustoolkit.errors import DataError, OutputError, RecordsError, RunError
from ustoolkit.evaluation.measurements import measure_size
from ustoolkit.files import read_json, write_json
from ustoolkit.inference.classifier import calibrated, decision_of
from ustoolkit.inference.diagnose import diagnose_images
from ustoolkit.inference.diagnosis import Diagnostician
from ustoolkit.inference.fusion import fuse_runs, load_classifier
from ustoolkit.inference.lesions import FoundLesions
from ustoolkit.inference.run_segmenter import RunSegmenter
from ustoolkit.run import Run


@pytest.fixture(scope="module")
def samples(labelled_records):
    return list(labelled_records.read())[:12]


@pytest.fixture(scope="module")
def segmenter(trained_run, samples, tmp_path_factory):
    """A segmenter that finds a lesion in half of the images."""
    run = Run(shutil.copytree(trained_run.folder, tmp_path_factory.mktemp("segmenter") / "run"))
    highest = [found.max() for found in RunSegmenter(run).probabilities(sample.image for sample in samples)]
    run.keep_tuned("threshold", {"threshold": round(float(np.median(highest)), 6)}, {})
    return RunSegmenter(run)


@pytest.fixture(scope="module")
def runs(labelled_records):
    return [trained(labelled_records, FINE_TUNING).folder, trained(labelled_records, MEASURES).folder]


@pytest.fixture(scope="module")
def fusion(labelled_records, runs, tmp_path_factory):
    from ustoolkit.data.lesions import known_lesions

    find = known_lesions(Run(runs[0]).recipe.classification.region)
    return fuse_runs(runs, tmp_path_factory.mktemp("fused") / "fusion", "equal", labelled_records, find).folder


def of(segmenter, *folders):
    return Diagnostician(segmenter, [load_classifier(folder) for folder in folders])


@pytest.fixture
def images(samples, tmp_path):
    """A folder with four of the images, and two files that are none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for sample in samples[:4]:
        (folder / f"{sample.source_id}.png").write_bytes(encode_png(sample.image))
    (folder / "text.png").write_text("no image")
    (folder / "notes.txt").write_text("a note")
    return folder


def test_a_lesion_is_measured_and_judged_and_none_is_said_to_be_none(segmenter, runs, samples):
    spaced = [replace(sample, spacing_mm=(0.1, 0.25)) for sample in samples]
    diagnoses = of(segmenter, runs[0])(spaced)
    found = [diagnosis for diagnosis in diagnoses if diagnosis.size_pixels]
    assert 0 < len(found) < len(samples)
    for diagnosis in diagnoses:
        assert (diagnosis.probability is None) == (diagnosis.size_mm is None) == (not diagnosis.mask.any())
        assert diagnosis.lowest is None and diagnosis.highest is None
    for diagnosis in found:
        assert 0 < diagnosis.probability < 1 and diagnosis.decision in ("benign", "malignant")
        assert diagnosis.size_pixels == measure_size(diagnosis.mask)
        assert diagnosis.size_mm == measure_size(diagnosis.mask, (0.1, 0.25))
        assert diagnosis.size_mm.area == pytest.approx(diagnosis.mask.sum() * 0.025)


def test_one_run_says_what_evaluation_says_of_the_found_lesion(segmenter, runs, samples):
    for folder in runs:
        classifier = load_classifier(folder)
        diagnoses = of(segmenter, folder)(samples)
        finder = FoundLesions(segmenter)
        raw = classifier.raw(samples, finder(samples), len(samples))
        expected = calibrated(classifier.combined(raw), decision_of(folder))[:, -1]
        for sample, diagnosis, probability in zip(samples, diagnoses, expected, strict=True):
            if sample.source_id in finder.missed:
                assert diagnosis.probability is None
                continue
            assert diagnosis.probability == pytest.approx(probability, abs=1e-6)
            assert diagnosis.decision == ("malignant" if probability >= decision_of(folder).threshold else "benign")


def test_several_runs_are_averaged_and_span_an_interval(segmenter, runs, samples):
    alone = [of(segmenter, folder)(samples) for folder in runs]
    diagnostician = of(segmenter, *runs)
    assert diagnostician.members == 2
    assert diagnostician.threshold == pytest.approx(np.mean([decision_of(folder).threshold for folder in runs]))
    for both, *each in zip(diagnostician(samples), *alone, strict=True):
        if both.probability is None:
            assert both.lowest is None and both.highest is None
            continue
        probabilities = [one.probability for one in each]
        assert both.probability == pytest.approx(np.mean(probabilities))
        assert (both.lowest, both.highest) == pytest.approx((min(probabilities), max(probabilities)))


def test_a_fusion_has_its_own_decision_and_counts_as_its_members(segmenter, fusion, runs, samples):
    diagnostician = of(segmenter, fusion)
    assert diagnostician.members == 2 and diagnostician.threshold == decision_of(fusion).threshold
    found = [one for one in diagnostician(samples) if one.probability is not None]
    assert found and all(one.lowest <= one.probability <= one.highest for one in found)
    assert of(segmenter, fusion, runs[0]).members == 3


def test_panels_and_tables_are_written_and_agree(segmenter, runs, samples, images, tmp_path):
    diagnostician = of(segmenter, *runs)
    result = diagnose_images(diagnostician, [images], tmp_path / "out")
    assert [row["source_id"] for row in result.rows] == sorted(sample.source_id for sample in samples[:4])
    assert len(result.refused) == 1 and "text.png" in result.refused[0]
    with (tmp_path / "out" / "diagnoses.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    content = read_json(tmp_path / "out" / "diagnoses.json", RunError, "")
    assert content["diagnoses"] == result.rows and content["refused"] == result.refused
    assert "no medical device" in content["notice"] and content["classifiers"] == 2
    by_name = {sample.source_id: sample for sample in samples}
    expected = diagnostician([by_name[row["source_id"]] for row in result.rows])
    for row, line, diagnosis in zip(result.rows, table, expected, strict=True):
        assert line == {key: "" if value is None else str(value) for key, value in row.items()}
        assert row["lesion_found"] == ("no" if diagnosis.probability is None else "yes")
        assert row["long_diameter_mm"] is row["area_mm2"] is None
        assert Path(row["file"]) == images / f"{row['source_id']}.png"
        if diagnosis.probability is not None:
            assert row["probability_malignant"] == pytest.approx(diagnosis.probability, abs=1e-5)
            assert row["area_pixels"] == diagnosis.mask.sum() and row["decision"] == diagnosis.decision
        assert Image.open(tmp_path / "out" / row["panel"]).width > 600
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".png", ".csv", ".json"}
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_a_part_of_records_is_diagnosed_and_what_was_learned_from_is_said(segmenter, runs, labelled_records, tmp_path):
    run = Run(runs[0])
    diagnostician = of(segmenter, runs[0])
    tested = diagnose_images(diagnostician, [labelled_records.folder], tmp_path / "test", "test")
    assert [row["source_id"] for row in tested.rows] == sorted(run.splits["test"]) and not tested.learned_from
    learned = diagnose_images(diagnostician, [labelled_records.folder], tmp_path / "validation", "validation")
    assert learned.learned_from == sorted(run.splits["validation"])


def test_a_dicom_folder_brings_its_millimetres(segmenter, runs, tmp_path):
    folder, finds_all = Path(__file__).parent.parent / "files" / "dicom", copy(segmenter)
    finds_all.inference = segmenter.inference.model_copy(update={"threshold": 0.0})
    result = diagnose_images(of(finds_all, runs[1]), [folder], tmp_path / "out")
    assert len(result.rows) > 1 and any(row["long_diameter_mm"] for row in result.rows)
    alone = diagnose_images(of(finds_all, runs[1]), [folder / "still.dcm"], tmp_path / "alone")
    assert [{**row, "panel": ""} for row in alone.rows] == [
        {**row, "panel": ""} for row in result.rows if row["source_id"] == alone.rows[0]["source_id"]
    ]


def test_labels_that_differ_and_a_missing_decision_are_refused(segmenter, runs, tmp_path):
    other = Path(shutil.copytree(runs[1], tmp_path / "other"))
    state = read_json(other / "run.json", RunError, "")
    write_json(other / "run.json", {**state, "labels": ["cyst", "tumour"]})
    with pytest.raises(RunError, match="cyst, tumour"):
        of(segmenter, runs[0], other)
    (other / "decision.json").unlink()
    with pytest.raises(RunError, match=r"decision\.json"):
        of(segmenter, other)


def test_nothing_is_written_where_nothing_can_be_read(segmenter, runs, images, tmp_path):
    diagnostician = of(segmenter, runs[1])
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    for path, message in ((empty, "found none"), (tmp_path / "nowhere", "found nothing")):
        with pytest.raises(DataError, match=message):
            diagnose_images(diagnostician, [path], out)
    with pytest.raises(DataError, match=r"text\.png"):
        diagnose_images(diagnostician, [images / "text.png"], out)
    with pytest.raises(RecordsError, match="--split"):
        diagnose_images(diagnostician, [images], out, "test")
    with pytest.raises(OutputError, match="within"):
        diagnose_images(diagnostician, [images], images / "out")
    assert not out.exists()


def test_earlier_diagnoses_are_replaced_only_when_told(segmenter, runs, images, samples, tmp_path):
    diagnostician = of(segmenter, runs[1])
    image = images / f"{samples[0].source_id}.png"
    diagnose_images(diagnostician, [images], tmp_path / "out")
    with pytest.raises(OutputError, match="--overwrite"):
        diagnose_images(diagnostician, [image], tmp_path / "out")
    diagnose_images(diagnostician, [image], tmp_path / "out", overwrite=True)
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    with pytest.raises(OutputError, match=r"diagnoses\.json"):
        diagnose_images(diagnostician, [image], images, overwrite=True)
