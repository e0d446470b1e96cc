"""A run folder: what tuning put in place of the recipe's settings, and how it is kept."""

import json
import shutil

import pytest

from ustoolkit.cli import main
from ustoolkit.data.records import records_of
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.run import Run


@pytest.fixture
def run(trained_run, tmp_path):
    """A copy of the trained run, to tune."""
    return Run(shutil.copytree(trained_run.folder, tmp_path / "run"))


def test_an_untuned_run_segments_as_its_recipe_says(run):
    assert run.inference == run.recipe.inference
    assert run.tuned == {"inference": {}, "evidence": {}}


def test_what_was_tuned_takes_the_place_of_the_recipes_and_the_rest_stays(run):
    own = run.recipe.inference
    run.keep_tuned("crf", {"crf": {"appearance_weight": 7.5}}, {"images": 4})
    run.keep_tuned("threshold", {"threshold": 0.35}, {"images": 5})
    expected = own.model_copy(update={"threshold": 0.35, "crf": own.crf.model_copy(update={"appearance_weight": 7.5})})
    assert Run(run.folder).inference == expected
    assert Run(run.folder).recipe.inference == own
    assert run.tuned["evidence"] == {"crf": {"images": 4}, "threshold": {"images": 5}}


def test_tuning_again_replaces_only_what_it_tunes(run):
    run.keep_tuned("crf", {"crf": {"appearance_weight": 7.5, "smoothness_weight": 2.0}}, {"images": 4})
    run.keep_tuned("threshold", {"threshold": 0.35}, {"images": 5})
    run.keep_tuned("crf", {"crf": {"appearance_weight": 1.5}}, {"images": 6})
    assert run.inference.threshold == 0.35
    assert (run.inference.crf.appearance_weight, run.inference.crf.smoothness_weight) == (1.5, 2.0)
    assert run.tuned["evidence"] == {"crf": {"images": 6}, "threshold": {"images": 5}}


def test_settings_that_are_not_valid_are_not_kept(run):
    with pytest.raises(RunError, match=r"inference\.threshold"):
        run.keep_tuned("threshold", {"threshold": 1.5}, {})
    assert not (run.folder / "tuned.json").exists()


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("{", "expected JSON"),
        ("[]", "'inference'"),
        ('{"inference": {}}', "'evidence'"),
        ('{"inference": [0.4], "evidence": {}}', "'inference'"),
        ('{"inference": {"threshold": 2}, "evidence": {}}', r"inference\.threshold"),
        ('{"inference": {"treshold": 0.4}, "evidence": {}}', "Did you mean 'threshold'"),
        ('{"inference": {"crf": 3}, "evidence": {}}', r"inference\.crf"),
        ('{"inference": {"crf": {"position_deviation": 0}}, "evidence": {}}', r"inference\.crf\.position_deviation"),
        ('{"inference": {"threshold": null}, "evidence": {}}', r"inference\.threshold"),
    ],
)
def test_a_tuned_file_changed_by_hand_is_refused_with_its_place_and_a_remedy(run, content, names):
    (run.folder / "tuned.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=names) as problem:
        _ = run.inference
    assert str(run.folder / "tuned.json") in str(problem.value) and "Remove the file" in str(problem.value)


def test_a_damaged_tuned_file_stops_prediction_without_a_traceback(run, phantom_folder, tmp_path, capsys):
    (run.folder / "tuned.json").write_text('{"inference": {"threshold": "high"}, "evidence": {}}', encoding="utf-8")
    image = next((phantom_folder / "images").glob("*.png"))
    assert main(["predict", str(run.folder), str(image), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("ustoolkit: ") and "tuned.json" in message and "Traceback" not in message


def test_a_new_run_in_its_place_is_untuned(run, records, tiny_recipe):
    run.keep_tuned("threshold", {"threshold": 0.35}, {})
    (run.folder / "tuning").mkdir()
    (run.folder / "tuning" / "threshold.csv").write_text("threshold,mean_dice\n", encoding="utf-8")
    splits = json.loads((run.folder / "splits.json").read_text(encoding="utf-8"))["parts"]
    new = Run.create(run.folder, tiny_recipe, run.manifest, records.folder, splits, [], overwrite=True)
    assert new.inference == tiny_recipe.inference
    assert not (run.folder / "tuning").exists() and not (run.folder / "tuned.json").exists()


def test_records_that_were_moved_are_asked_for(run, records, tmp_path):
    assert records_of(run).digest == records.digest
    run.update(records=str(tmp_path / "moved"))
    with pytest.raises(RecordsError, match=r"moved, found nothing there.* --records DIR"):
        records_of(run)
    assert records_of(run, records.folder).digest == records.digest
