import json
import math
import shutil

import numpy as np
import pytest

from tests.studies.classifiers import scored, write_evaluation
from tests.studies.scored_runs import scored_run
from ustoolkit.data.phantom import write_phantoms
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.records import write_records
from ustoolkit.errors import RunError
from ustoolkit.recipe import DataSetSettings
from ustoolkit.studies.run_sets import read_run_set, set_names, shared_images


@pytest.fixture
def names(records):
    """Six images, in the order of the records."""
    return [row.source_id for row in records.index][:6]


def dice_of(found):
    return dict(zip(found.source_ids, found.metrics["dice"].T.tolist(), strict=True))


def test_a_run_and_its_evaluation_are_the_same_set(tmp_path, records, names):
    run = scored_run(tmp_path / "run", records, {names[1]: 0.2, names[0]: 0.4}, seed=7)
    for folder in (run.folder, run.evaluation("test")):
        found = read_run_set(folder)
        assert (found.kind, found.seeds, found.digest) == ("segmentation", (7,), records.digest)
        assert found.source_ids == (names[0], names[1])  # in the order of the records
        assert found.metrics["dice"].tolist() == [[0.4, 0.2]] and found.whole == names[:2]
        assert found.evaluations == (run.evaluation("test"),)
    row = records.index[0]
    assert found.patient_ids[0] == row.patient_id and found.checksums[0] == row.sha256
    assert found.facts[0].label == row.label and found.facts[0].lesion_fraction == row.lesion_fraction
    assert found.facts[0].attributes == row.attributes


def test_seeds_stand_one_below_another_whatever_their_folders_are_called(tmp_path, records, names):
    scored_run(tmp_path / "arm" / "a", records, {names[0]: 0.1, names[1]: 0.2}, seed=4)
    scored_run(tmp_path / "arm" / "b", records, {names[1]: 0.4, names[0]: 0.3}, seed=2)
    found = read_run_set(tmp_path / "arm")
    assert found.seeds == (2, 4)
    assert found.metrics["dice"].tolist() == [[0.3, 0.4], [0.1, 0.2]]


def test_folds_of_a_seed_are_joined(tmp_path, records, names):
    for seed in range(2):
        for fold in range(3):
            of_fold = dict.fromkeys(names[2 * fold : 2 * fold + 2], seed + fold / 10)
            scored_run(tmp_path / f"seed{seed}-fold{fold + 1}", records, of_fold, seed)
    found = read_run_set(tmp_path)
    assert found.seeds == (0, 1) and len(found.evaluations) == 6 and found.scored.all()
    assert dice_of(found) == {name: [n // 2 / 10, 1 + n // 2 / 10] for n, name in enumerate(names)}


def test_what_a_seed_did_not_score_is_nan_and_not_compared(tmp_path, records, names):
    scored_run(tmp_path / "seed0-fold1", records, {names[0]: 0.1, names[1]: 0.2}, 0)
    scored_run(tmp_path / "seed0-fold2", records, {names[2]: 0.3}, 0)
    scored_run(tmp_path / "seed1-fold1", records, {names[0]: 0.5, names[1]: {"dice": math.nan}}, 1)
    found = read_run_set(tmp_path)
    np.testing.assert_array_equal(found.metrics["dice"], [[0.1, 0.2, 0.3], [0.5, math.nan, math.nan]])
    assert found.scored.tolist() == [[True, True, True], [True, True, False]]
    sets, left_out = shared_images({"both": found})
    assert sets["both"].source_ids == tuple(names[:2]) and left_out == {"both": 1}


def test_images_that_both_sets_scored_are_compared(tmp_path, records, names):
    scored_run(tmp_path / "one", records, dict.fromkeys(names[:4], 0.1))
    scored_run(tmp_path / "two", records, {name: n / 10 for n, name in enumerate(names) if n >= 2})
    sets, left_out = shared_images({name: read_run_set(tmp_path / name) for name in ("one", "two")})
    assert left_out == {"one": 2, "two": 2}
    assert all(each.source_ids == (names[2], names[3]) for each in sets.values())
    assert sets["two"].metrics["dice"].tolist() == [[0.2, 0.3]]
    assert [len(getattr(sets["two"], name)) for name in ("patient_ids", "facts", "checksums")] == [2, 2, 2]


def test_classes_of_an_image_are_averaged_where_they_are_defined(tmp_path, records, names):
    undefined = {"dice": math.nan}
    scored_run(tmp_path, records, {names[0]: [0.2, 0.6], names[1]: [undefined, 0.6], names[2]: [undefined, undefined]})
    np.testing.assert_array_equal(read_run_set(tmp_path).metrics["dice"], [[0.4, 0.6, math.nan]])


def test_runs_are_found_three_levels_down_and_not_within_a_run(tmp_path, records, names):
    folder = tmp_path / "a" / "b" / "c"
    run = scored_run(folder, records, {names[0]: 0.1})
    shutil.copytree(folder, run.folder / "copy")
    (tmp_path / "a" / ".hidden").mkdir()
    assert read_run_set(tmp_path).evaluations == (run.evaluation("test"),)
    shutil.move(tmp_path / "a", tmp_path / "above" / "a")
    with pytest.raises(RunError, match=r"expected an evaluation 'test', found none, nor a run within 3 levels"):
        read_run_set(tmp_path)


def test_another_evaluation_is_read_where_it_is_asked_for(tmp_path, records, names):
    scored_run(tmp_path / "run", records, {names[0]: 0.1}, part="test-crf")
    assert read_run_set(tmp_path, "test-crf").metrics["dice"].tolist() == [[0.1]]
    with pytest.raises(RunError, match=r"run: expected an evaluation 'test', found none.*evaluate .*run --split test"):
        read_run_set(tmp_path)


class TestWhatDoesNotBelongTogether:
    def test_two_runs_of_a_seed_that_test_the_same_images(self, tmp_path, records, names):
        for arm in ("one", "two"):
            scored_run(tmp_path / arm / "seed0", records, {names[0]: 0.1})
        with pytest.raises(RunError, match=rf"two/seed0.*scores '{names[0]}', as does another run of seed 0"):
            read_run_set(tmp_path)

    def test_two_networks(self, tmp_path, records, names):
        scored_run(tmp_path / "a", records, {names[0]: 0.1})
        scored_run(tmp_path / "b", records, {names[0]: 0.1}, seed=1, changes=["model.widths=[4,8,16]"])
        with pytest.raises(RunError, match=r"b: expected the network of .*a, found another"):
            read_run_set(tmp_path)

    def test_runs_of_other_records(self, tmp_path, records, names):
        scored_run(tmp_path / "a", records, {names[0]: 0.1})
        scored_run(tmp_path / "b", records, {names[0]: 0.1}, seed=1, settings={"records_digest": "other"})
        with pytest.raises(RunError, match=r"b/evaluation/test: expected runs of one set of records.*found 'other'"):
            read_run_set(tmp_path)

    def test_sets_of_other_records(self, tmp_path, records, names):
        scored_run(tmp_path / "a", records, {names[0]: 0.1})
        scored_run(tmp_path / "b", records, {names[0]: 0.1}, settings={"records_digest": "other"})
        sets = {name: read_run_set(tmp_path / name) for name in "ab"}
        with pytest.raises(RunError, match=r"b: expected scores of the records that .*a is of, found those of others"):
            shared_images(sets)

    def test_sets_of_other_parts(self, tmp_path, records, names):
        scored_run(tmp_path / "a", records, {names[0]: 0.1})
        scored_run(tmp_path / "b", records, {names[1]: 0.1})
        with pytest.raises(RunError, match=r"found others\. Evaluate both on one part"):
            shared_images({name: read_run_set(tmp_path / name) for name in "ab"})

    def test_one_that_segments_and_one_that_classifies(self, tmp_path, records, names):
        scored_run(tmp_path / "a", records, {names[0]: 0.1})
        write_evaluation(tmp_path / "b", scored([True, False], [0.6, 0.3]))
        sets = {name: read_run_set(tmp_path / name) for name in "ab"}
        with pytest.raises(RunError, match=r"b: expected runs of segmentation as in .*a, found runs of classification"):
            shared_images(sets)


def converted(folder, seed, shards):
    settings = DataSetSettings()
    images = write_phantoms(folder / f"images-{shards}", 6, seed=seed, size=(64, 64))
    return write_records(open_data_set(images, settings), folder / f"records-{shards}", settings, workers=1)


def test_the_same_images_converted_again_are_the_same_records(tmp_path, monkeypatch):
    first = converted(tmp_path / "a", 5, 1)
    again = converted(tmp_path / "b", 5, 2)
    other = converted(tmp_path / "c", 6, 3)
    manifest = json.loads((again.folder / "manifest.json").read_text())
    (again.folder / "manifest.json").write_text(json.dumps({**manifest, "digest": "of other shards"}))
    again.manifest["digest"] = "of other shards"
    sets = {}
    for name, made in (("first", first), ("again", again), ("other", other)):
        scored_run(tmp_path / "runs" / name, made, {row.source_id: 0.5 for row in made.index})
        sets[name] = read_run_set(tmp_path / "runs" / name)
    shared, left_out = shared_images({name: sets[name] for name in ("first", "again")})
    assert len(shared["again"].source_ids) == 6 and left_out == {"first": 0, "again": 0}
    with pytest.raises(RunError, match="found those of others"):
        shared_images({name: sets[name] for name in ("first", "other")})


def test_records_that_were_moved_are_named_or_only_labels_are_known(tmp_path, records, names):
    there = shutil.copytree(records.folder, tmp_path / "moved")
    settings = {"records": str(tmp_path / "gone"), "records_digest": records.digest}
    scored_run(tmp_path / "run", records, {names[1]: 0.1, names[0]: 0.2}, settings=settings)
    found = read_run_set(tmp_path / "run")
    assert found.source_ids == (names[1], names[0]) and not found.checksums
    assert found.facts[0].label == records.index[1].label and found.facts[0].lesion_fraction is None
    assert read_run_set(tmp_path / "run", records=there).facts[0].lesion_fraction is not None
    other = converted(tmp_path, 8, 1)
    with pytest.raises(RunError, match=r"records-1: expected the records that .* scored, found others"):
        read_run_set(tmp_path / "run", records=other.folder)


def test_classifiers(tmp_path):
    write_evaluation(tmp_path / "run" / "evaluation" / "test", scored([True, False, True], [0.9, 0.2, 0.4]))
    found = read_run_set(tmp_path / "run" / "evaluation" / "test")
    assert (found.kind, found.positive, found.seeds) == ("classification", "malignant", (0,))
    assert found.truth.tolist() == [True, False, True]
    assert found.probability.tolist() == [[0.9, 0.2, 0.4]]
    assert found.metrics["brier"] == pytest.approx(np.array([[0.01, 0.04, 0.36]]))


@pytest.mark.parametrize("content", ["[]", "{}", '{"labels": []}', '{"settings": 3, "classes": {}}', "null", "{"])
def test_a_damaged_summary_is_said(tmp_path, records, names, content):
    run = scored_run(tmp_path, records, {names[0]: 0.1})
    (run.evaluation("test") / "metrics.json").write_text(content)
    with pytest.raises(RunError, match=r"metrics\.json: expected .*evaluate' again"):
        read_run_set(tmp_path)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["runs/plain", "runs/unet"], ["plain", "unet"]),
        (["a/runs/unet", "b/runs/unet", "b/runs/fcn"], ["a/runs/unet", "b/runs/unet", "fcn"]),
        (["one/evaluation/test", "two/evaluation/test"], ["one", "two"]),
        (["unet", "unet", "unet"], ["unet", "unet (2)", "unet (3)"]),
        (["runs/unet", "runs/unet/seed0"], ["unet", "seed0"]),
        (["run/evaluation/test", "run/evaluation/test-crf"], ["test", "test-crf"]),
        (["run", "run/evaluation/test"], ["run", "test"]),
    ],
)
def test_names_are_as_short_as_they_can_be(tmp_path, folders, expected):
    assert set_names([tmp_path / folder for folder in folders]) == expected
