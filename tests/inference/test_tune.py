"""Tuning on the validation part: what is found, that nothing else is read, and what is refused."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from ustoolkit.cli import main
from ustoolkit.data.records import Records
from ustoolkit.errors import RecipeError, RecordsError, RunError
from ustoolkit.evaluation.overlap import dice
from ustoolkit.files import write_json
from ustoolkit.inference.crf import refine
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.inference.run_segmenter import RunSegmenter
from ustoolkit.inference.tune import DEVIATION_RANGES, TUNED_CRF, draw_crf, image_dice, tune_crf, tune_threshold
from ustoolkit.models.load import load_model
from ustoolkit.recipe.settings import CrfSettings
from ustoolkit.run import Run


@pytest.fixture
def run(trained_run, tmp_path):
    """A copy of the trained run, to tune."""
    return Run(shutil.copytree(trained_run.folder, tmp_path / "run"))


@pytest.fixture(scope="module")
def validation(trained_run, records):
    """Truth, image and the network's probability of each validation image."""
    samples = list(records.read(trained_run.splits["validation"]))
    found = RunSegmenter(trained_run).probabilities(sample.image for sample in samples)
    return [(sample.mask, sample.image, probability) for sample, probability in zip(samples, found, strict=True)]


@pytest.fixture(scope="module")
def tuned(trained_run, records, tmp_path_factory):
    """A copy of the run whose CRF was tuned in four trials."""
    copy = Run(shutil.copytree(trained_run.folder, tmp_path_factory.mktemp("tuned") / "run"))
    return copy, tune_crf(copy, records, trials=4, images=128, seed=5, workers=1)


def table(run: Run, name: str) -> list[dict[str, str]]:
    with (run.folder / "tuning" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def mean_dice(validation, settings, crf=None):
    scores = []
    for truth, image, probability in validation:
        refined = probability if crf is None else refine(probability, image, crf)
        scores.append(dice(truth == 1, to_mask(refined, settings) == 1))
    return np.nanmean(scores)


def test_every_trial_is_scored_as_evaluation_would(tuned, validation):
    run, _ = tuned
    without, *trials = table(run, "crf.csv")
    settings = run.recipe.inference
    assert without["trial"] == "without" and [row["trial"] for row in trials] == ["1", "2", "3", "4"]
    assert float(without["mean_dice"]) == pytest.approx(mean_dice(validation, settings), abs=1e-6)
    for row in trials:
        crf = CrfSettings(**{name: float(row[name]) for name in TUNED_CRF})
        assert float(row["mean_dice"]) == pytest.approx(mean_dice(validation, settings, crf), abs=1e-6)


def test_the_first_trial_is_the_recipes_and_the_best_is_kept_with_its_evidence(tuned):
    run, tuning = tuned
    without, *trials = table(run, "crf.csv")
    own = run.recipe.inference.crf
    assert all(float(trials[0][name]) == getattr(own, name) for name in TUNED_CRF)
    best = max(trials, key=lambda row: float(row["mean_dice"]))
    assert tuning.values == {name: float(best[name]) for name in TUNED_CRF}
    assert run.inference.crf == own.model_copy(update=tuning.values)
    assert not run.inference.crf.enabled
    evidence = run.tuned["evidence"]["crf"]
    assert evidence["dice_without_crf"] == float(without["mean_dice"])
    assert evidence["dice_tuned"] == float(best["mean_dice"])
    assert (evidence["trials"], evidence["seed"]) == (4, 5)
    assert evidence["images"] == len(run.splits["validation"])
    assert evidence["difference"]["mean"] == pytest.approx(evidence["dice_tuned"] - evidence["dice_without_crf"])


def test_only_the_validation_part_is_read_and_neither_workers_nor_repetition_change_a_byte(
    tuned, trained_run, records, tmp_path
):
    """The records of every other image are damaged, their ids gone from the split, and two processes share the work."""
    first, _ = tuned
    copy = Path(shutil.copytree(records.folder, tmp_path / "records"))
    kept = trained_run.splits["validation"]
    others = [row for row in records.index if row.source_id not in kept]
    for row in others:
        with (copy / row.shard).open("r+b") as file:
            file.seek(row.offset)
            file.write(b"\xff" * 16)
    damaged = Records(copy)
    with pytest.raises(RecordsError):
        list(damaged.read([others[0].source_id]))
    run = Run(shutil.copytree(trained_run.folder, tmp_path / "run"))
    write_json(run.folder / "splits.json", {"parts": {"validation": kept}, "trained_on_sha256": []})
    tune_crf(run, damaged, trials=4, images=128, seed=5, workers=2)
    for name in ("tuned.json", "tuning/crf.csv"):
        assert (run.folder / name).read_bytes() == (first.folder / name).read_bytes()
    tune_threshold(run, damaged)


def test_tuning_again_gives_the_same_and_another_seed_another_search(tuned, records, tmp_path):
    first, _ = tuned
    run = Run(shutil.copytree(first.folder, tmp_path / "run"))
    before = contents(run.folder)
    tune_crf(run, records, trials=4, images=128, seed=5, workers=1)
    assert contents(run.folder) == before
    tune_crf(run, records, trials=4, images=128, seed=6, workers=1)
    assert table(run, "crf.csv")[:2] == table(first, "crf.csv")[:2]
    assert table(run, "crf.csv")[2:] != table(first, "crf.csv")[2:]


def test_fewer_images_are_drawn_from_the_validation_part_by_the_seed(run, records):
    means = set()
    for seed in range(4):
        assert tune_crf(run, records, trials=1, images=1, seed=seed, workers=1).images == 1
        means.add(table(run, "crf.csv")[0]["mean_dice"])
    assert len(means) > 1


def test_trials_are_drawn_within_their_ranges_and_both_forms_of_smoothness_are_tried():
    drawn = [draw_crf(0, number) for number in range(2, 202)]
    for name, (low, high) in DEVIATION_RANGES.items():
        values = [values[name] for values in drawn if values[name] or name != "smoothness_deviation"]
        assert low <= min(values) < 2 * low and high / 2 < max(values) <= high
        assert np.median(values) == pytest.approx(math.sqrt(low * high), rel=0.4)
    assert 60 < sum(values["smoothness_deviation"] == 0 for values in drawn) < 140
    assert all(0 <= values["appearance_weight"] <= 10 for values in drawn)
    assert drawn[0] == draw_crf(0, 2) != draw_crf(1, 2)
    assert all(CrfSettings(**values).model_dump(include=set(TUNED_CRF)) == values for values in drawn)


def test_the_tuned_threshold_is_what_brute_force_finds(run, records, validation):
    settings = run.recipe.inference
    tuning = tune_threshold(run, records)
    brute = {
        step / 40: mean_dice(validation, settings.model_copy(update={"threshold": step / 40})) for step in range(2, 39)
    }
    best = max(brute.values())
    ties = [threshold for threshold, score in brute.items() if score == pytest.approx(best, abs=1e-9)]
    assert tuning.best == pytest.approx(best, abs=1e-6)
    assert tuning.before == pytest.approx(brute[0.5], abs=1e-6)
    assert tuning.values["threshold"] == run.inference.threshold == min(ties, key=lambda each: abs(each - 0.5))
    rows = table(run, "threshold.csv")
    assert [float(row["threshold"]) for row in rows] == list(brute)
    assert [float(row["mean_dice"]) for row in rows] == pytest.approx(list(brute.values()), abs=1e-6)


def test_of_equal_thresholds_that_nearest_to_a_half_is_taken(run, records, validation):
    """A network of zeros says 0.5 everywhere: up to 0.5 all is lesion, beyond it nothing is."""
    model = load_model(run)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    model.save_weights(run.best_weights)
    text = (run.folder / "recipe.toml").read_text(encoding="utf-8")
    (run.folder / "recipe.toml").write_text(text.replace("threshold = 0.5", "threshold = 0.977"), encoding="utf-8")
    tuning = tune_threshold(Run(run.folder), records)
    shares = [np.mean(truth) for truth, _, _ in validation]
    assert tuning.values == {"threshold": 0.5}
    assert tuning.best == pytest.approx(np.mean([2 * share / (1 + share) for share in shares]))
    assert tuning.before == 0 and tuning.difference.verdict == "better"
    assert table(run, "threshold.csv")[-1] == {"threshold": "0.977", "mean_dice": "0.0"}


def test_the_crf_and_the_threshold_are_kept_side_by_side(tuned, records, tmp_path):
    first, tuning = tuned
    run = Run(shutil.copytree(first.folder, tmp_path / "run"))
    threshold = tune_threshold(run, records).values["threshold"]
    assert run.inference.threshold == RunSegmenter(run).inference.threshold == threshold
    assert {name: getattr(run.inference.crf, name) for name in TUNED_CRF} == tuning.values


def test_where_the_crf_is_on_the_threshold_is_of_refined_probabilities(run, records, validation):
    run.keep_tuned("crf", {"crf": {"enabled": True, "position_deviation": 9.0}}, {})
    tuning = tune_threshold(run, records, workers=1)
    settings = run.inference
    assert tuning.best == pytest.approx(mean_dice(validation, settings, settings.crf), abs=1e-6)


def test_dice_of_an_image_is_averaged_over_the_classes_that_are_there():
    truth = np.array([[0, 1, 1, 2]], np.uint8)
    assert image_dice(truth, truth, 4) == 1
    assert image_dice(truth, np.array([[0, 1, 0, 0]], np.uint8), 4) == pytest.approx((2 / 3 + 0) / 2)
    assert image_dice(truth * 0, truth * 0 + np.uint8(3), 4) == 0
    assert math.isnan(image_dice(truth * 0, truth * 0, 4))


class Interrupted(Records):
    """Records whose reader presses Ctrl-C when so many images were read."""

    left = 0

    def read(self, source_ids=None):
        for sample in super().read(source_ids):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            yield sample


@pytest.mark.parametrize("images", [1, 20])
def test_interrupted_it_leaves_the_run_as_it_was(tuned, records, tmp_path, images):
    run = Run(shutil.copytree(tuned[0].folder, tmp_path / "run"))
    before = contents(run.folder)
    interrupted = Interrupted(records.folder)
    interrupted.left = images
    with pytest.raises(KeyboardInterrupt):
        tune_crf(run, interrupted, trials=6, images=128, seed=0, workers=1)
    interrupted.left = 1
    with pytest.raises(KeyboardInterrupt):
        tune_threshold(run, interrupted)
    assert contents(run.folder) == before


class TestRefusals:
    def test_other_records(self, run, records):
        other = Records(records.folder)
        other.manifest = {**other.manifest, "digest": "of other images"}
        for tune in (lambda: tune_crf(run, other, 1, 1, 0), lambda: tune_threshold(run, other)):
            with pytest.raises(RecordsError, match="Leave out --records"):
                tune()

    @pytest.mark.parametrize("parts", [{"validation": []}, {}, {"validation": ["no_such_image"]}])
    def test_no_lesion_to_tune_on(self, run, records, parts):
        write_json(run.folder / "splits.json", {"parts": parts, "trained_on_sha256": []})
        for tune in (lambda: tune_crf(run, records, 1, 1, 0), lambda: tune_threshold(run, records)):
            with pytest.raises(RecordsError, match="validation part"):
                tune()

    def test_more_than_two_classes_have_no_threshold(self, run, records):
        write_json(run.folder / "manifest.json", {**run.manifest, "classes": ["background", "lesion", "cyst"]})
        with pytest.raises(RunError, match="no threshold"):
            tune_threshold(run, records)

    @pytest.mark.parametrize(("trials", "images"), [(0, 5), (5, 0)])
    def test_nothing_to_try(self, run, records, trials, images):
        with pytest.raises(RecipeError, match="expected 1 or more"):
            tune_crf(run, records, trials, images, 0)


class TestCommands:
    def call(self, capsys, *words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as leave:
            code = int(leave.code or 0)
        return code, *capsys.readouterr()

    def test_the_crf_is_tuned_and_the_next_step_named(self, run, capsys):
        code, out, err = self.call(capsys, "tune-crf", run.folder, "--trials", 2, "--workers", 1)
        assert code == 0 and "Traceback" not in err
        evidence = run.tuned["evidence"]["crf"]
        assert f"without the CRF {evidence['dice_without_crf']:.3f}, with it {evidence['dice_tuned']:.3f}" in out
        assert f"position_deviation {run.inference.crf.position_deviation:g}" in out
        assert f"ustoolkit evaluate {run.folder} --crf" in out
        assert ("does not help" in out) == (evidence["dice_tuned"] <= evidence["dice_without_crf"])

    def test_a_crf_that_was_tuned_at_another_threshold_is_to_be_tuned_again(self, run, records, capsys):
        best = tune_threshold(run, records).values["threshold"]
        for threshold, again in ((best, False), (0.017, True)):
            run.keep_tuned("threshold", {"threshold": threshold}, {})
            tune_crf(run, records, 1, 128, 0, 1)
            _, out, _ = self.call(capsys, "tune-threshold", run.folder)
            assert (f"ustoolkit tune-crf {run.folder}" in out) == again

    def test_both_answer_scripts_in_json(self, run, capsys):
        for words in (("tune-crf", run.folder, "--trials", 1, "--workers", 1), ("tune-threshold", run.folder)):
            code, out, _ = self.call(capsys, *words, "--json")
            result = json.loads(out)
            assert code == 0 and result["run"] == str(run.folder) and result["part"] == "validation"
            assert 0 <= result["dice_tuned"] <= 1
            before = "dice_without_crf" if words[0] == "tune-crf" else "dice_with_recipe_threshold"
            assert result["dice_tuned"] - result[before] == pytest.approx(result["difference"]["mean"])
            assert result["tuned"].items() <= {**run.tuned["inference"]["crf"], **run.tuned["inference"]}.items()

    def test_wrong_input_is_one_clear_message(self, run, capsys, phantom_folder, tmp_path):
        (run.folder / "best.weights.h5").rename(tmp_path / "weights")
        wrong = [
            ("tune-crf", run.folder),
            ("tune-threshold", run.folder),
            ("tune-crf", tmp_path / "nothing"),
            ("tune-threshold", phantom_folder),
            ("tune-crf", run.folder, "--records", phantom_folder),
            ("tune-crf", run.folder, "--trials", "0"),
            ("tune-crf", run.folder, "--images", "0"),
        ]
        for words in wrong:
            code, out, err = self.call(capsys, *words)
            assert code == 2 and not out and err.startswith("ustoolkit: ") and "Traceback" not in err, words
        for words in (("tune-crf", run.folder, "--seed", "-1"), ("tune-crf", run.folder, "--trials", "many")):
            code, _, err = self.call(capsys, *words)
            assert code == 2 and "argument" in err
        assert not (run.folder / "tuned.json").exists() and not (run.folder / "tuning").exists()
