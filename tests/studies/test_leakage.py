"""Splits that ignore patients: what they divide, what they keep alike, and the table that shows the leak."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from tests.studies.classifiers import LESIONS, scored
from tests.studies.runs import options
from ustoolkit.data.leaks import find_leaks
from ustoolkit.data.records import Records
from ustoolkit.data.split import read_splits
from ustoolkit.errors import RecordsError
from ustoolkit.studies import STUDIES
from ustoolkit.studies.classification_scores import ClassifierScores
from ustoolkit.studies.comparison import Protocol, Study
from ustoolkit.studies.leakage import BY_IMAGE, leakage_arms, leakage_rows, tabulate_leakage
from ustoolkit.studies.plan import StudyOptions, plan_runs
from ustoolkit.studies.protocols import prepare, protocol_records, protocol_splits
from ustoolkit.studies.runner import run_study
from ustoolkit.studies.stages import commands_of

COPIES = Protocol("augment-then-split", expand_to=60, train=40)


@pytest.fixture
def given(records):
    return read_splits(records.folder / "splits.json", records)


def tally(records, names):
    labels = {row.source_id: row.label for row in records.index}
    return sorted(labels[name] for name in names)


def test_a_split_by_image_has_parts_and_labels_of_the_same_size(records, given, tmp_path):
    prepare([BY_IMAGE], records, given, tmp_path, seeds=2)
    assert protocol_records(BY_IMAGE, tmp_path) is None
    drawn = [read_splits(protocol_splits(BY_IMAGE, tmp_path, seed), records, allow_leak=True) for seed in (0, 1)]
    for parts in drawn:
        assert {part: tally(records, names) for part, names in parts.items()} == {
            part: tally(records, names) for part, names in given.items()
        }
        assert sorted(chain(*parts.values())) == sorted(chain(*given.values()))
    assert drawn[0] != drawn[1] != given
    before = protocol_splits(BY_IMAGE, tmp_path, 0).read_bytes()
    prepare([BY_IMAGE], records, given, tmp_path, seeds=1)
    assert protocol_splits(BY_IMAGE, tmp_path, 0).read_bytes() == before


def test_copies_made_first_are_divided_at_random(records, given, tmp_path):
    prepare([COPIES], records, given, tmp_path, seeds=1)
    expanded = Records(protocol_records(COPIES, tmp_path))
    parts = read_splits(protocol_splits(COPIES, tmp_path, 0), expanded, allow_leak=True)
    assert {part: len(names) for part, names in parts.items()} == {"train": 40, "validation": 4, "test": 16}
    assert all(tally(expanded, names).count("malignant") * 2 == len(names) for names in parts.values())
    originals = {row.source_id: row for row in records.index}
    for row in expanded.index:
        original = originals[row.attributes.get("expanded_from", row.source_id)]
        assert (row.patient_id, row.label) == (original.patient_id, original.label)
    assert find_leaks(parts, expanded.index), "nothing leaks"
    stamp = (expanded.folder / "manifest.json").stat().st_mtime_ns
    prepare([COPIES], records, given, tmp_path, seeds=2)
    assert (expanded.folder / "manifest.json").stat().st_mtime_ns == stamp, "it was made again"
    with pytest.raises(RecordsError, match="found those of others"):
        prepare([replace(COPIES, expand_to=66)], records, given, tmp_path, seeds=1)


def test_too_few_images_for_copies_or_parts_are_refused(records, given, tmp_path):
    with pytest.raises(RecordsError, match="Raise it"):
        prepare([replace(COPIES, expand_to=10)], records, given, tmp_path, seeds=1)
    few = {part: names[:1] for part, names in given.items()}
    with pytest.raises(RecordsError, match="too few to be in every part"):
        prepare([Protocol("tiny", expand_to=4, train=3)], records, few, tmp_path, seeds=1)


def test_the_same_classifier_under_three_protocols_with_leaks_allowed_where_they_are(tmp_path):
    asked = StudyOptions(tmp_path / "records", tmp_path, seeds=1, preview=True, pretraining_records=tmp_path)
    runs = {run.arm.name: run for run in plan_runs(STUDIES["leakage"], asked) if not run.pretraining}
    assert len(runs) == 6
    for model in ("resnet50", "lesion-features"):
        recipes = [runs[f"{model}-{name}"].recipe for name in ("patient-wise", "image-wise", "augment-then-split")]
        assert recipes[0] == recipes[1] and recipes[0].model == recipes[2].model
    expanded = runs["resnet50-augment-then-split"]
    balance = [runs[f"resnet50-{name}"].recipe.classification.balance for name in ("patient-wise", "image-wise")]
    assert [each.expand_to for each in balance] == [2000, 2000]
    assert expanded.recipe.classification.balance.expand_to == 0 and expanded.records != asked.records
    allowed = {name: "--allow-leak" in commands_of(run, "absent", asked)[0] for name, run in runs.items()}
    assert allowed == {name: not name.endswith("patient-wise") for name in runs}


def test_a_leak_is_measured_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr("ustoolkit.studies.leakage._shares", lambda runs: {"test_images": 40.0})
    positive, patients = [1, 0] * 20, [f"p{number}" for number in range(40)]
    tied, perfect = scored(positive, [0.5] * 40, patients), scored(positive, [0.9, 0.1] * 20, patients, prefix="other")

    def of(found, area):
        scores = {"image": {"roc_auc": area}}
        return [ClassifierScores(tmp_path, seed, {"image": found}, scores, 0.5, 1.0) for seed in (0, 1)]

    rows = leakage_rows({"resnet50-patient-wise": of(tied, 0.5), "resnet50-image-wise": of(perfect, 1.0)})
    baseline, leaking, missing = rows[:3]
    assert baseline["verdict"] == "baseline" and np.isnan(baseline["above"])
    assert leaking["above"] == pytest.approx(0.5) == leaking["above_low"] and leaking["verdict"] == "inflated"
    assert missing["seeds"] == 0 and missing["verdict"] == "" and len(rows) == 6


@pytest.mark.slow
def test_the_leakage_study_from_end_to_end(records, tmp_path):
    study = Study(
        "leaks",
        "toy",
        leakage_arms(LESIONS.name, LESIONS, (BY_IMAGE, COPIES)),
        (),
        protocols=(BY_IMAGE, COPIES),
        tabulate=tabulate_leakage,
    )
    asked = options(records, tmp_path / "study")
    result = run_study(study, asked, lambda line, changed: None)
    assert {run["status"] for run in result["runs"].values()} == {"finished"}, result["runs"]
    rows = {row["arm"]: row for row in result["tables"]["leakage"] if row["seeds"]}
    assert [row["of_trained_images"] for row in rows.values()][:2] == [0, 0]
    assert rows["lesion-features-augment-then-split"]["of_trained_images"] > 0.5
    assert rows["lesion-features-patient-wise"]["of_trained_patients"] == 0
    assert rows["lesion-features-augment-then-split"]["training_images"] == 40
    lines = []
    run_study(study, asked, lambda line, changed: lines.append(line))
    assert not lines, "what was finished was run again"
