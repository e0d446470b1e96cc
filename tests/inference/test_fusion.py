"""Several runs as one: weights found on images that none learned from, and only of runs that belong together."""

import json
import shutil

import numpy as np
import pytest

from tests.classifiers import BOTTLENECK, FINE_TUNING, MEASURES, recipe_of, trained
from ustoolkit.data.lesions import known_lesions
from ustoolkit.data.split import split_patients, write_splits
from ustoolkit.errors import RunError
from ustoolkit.evaluation.diagnosis_tables import read_probabilities
from ustoolkit.inference.classifier import RunClassifier, decision_of
from ustoolkit.inference.classify import evaluate_classifier
from ustoolkit.inference.fusion import FusedClassifier, fuse_runs, load_classifier, looked_at
from ustoolkit.recipe.classification import RegionSettings
from ustoolkit.run import Run
from ustoolkit.training.start import start_run

FIND = known_lesions(RegionSettings())


@pytest.fixture(scope="module")
def runs(labelled_records):
    return [trained(labelled_records, form) for form in (BOTTLENECK, MEASURES)]


def fuse(runs, records, out, how="equal", **more):
    return fuse_runs([run.folder for run in runs], out, how, records, FIND, **more)


def test_equal_weights_are_the_mean(labelled_records, runs, tmp_path):
    fused = fuse(runs, labelled_records, tmp_path / "fused")
    samples = list(labelled_records.read(runs[0].splits["test"]))
    raw = fused.raw(samples, FIND(samples), len(samples))
    assert raw.shape == (2, len(samples), 2) and fused.members == 2
    for member, run in zip(raw, runs, strict=True):
        np.testing.assert_allclose(member, RunClassifier(run).raw(samples, FIND(samples), len(samples))[0], atol=1e-6)
    np.testing.assert_allclose(fused.combined(raw), raw.mean(axis=0))
    again = load_classifier(tmp_path / "fused")
    assert isinstance(again, FusedClassifier) and again.fusion == fused.fusion and again.labels == runs[0].labels


@pytest.mark.parametrize("how", ["auc", "simplex", "stacked"])
def test_other_ways_give_probabilities_and_a_decision(labelled_records, runs, tmp_path, how):
    fused = fuse(runs, labelled_records, tmp_path / "fused", how)
    raw = np.random.default_rng(0).dirichlet([1, 1], (2, 7))
    np.testing.assert_allclose(fused.combined(raw).sum(axis=1), 1)
    decision = decision_of(tmp_path / "fused")
    assert decision.temperature > 0 and 0 <= decision.threshold <= 1
    # Both were cross-validated, so their training images serve too, out of fold.
    assert decision.evidence["images"] == len(runs[0].splits["train"]) + len(runs[0].splits["validation"])


def test_with_a_network_only_the_validation_part_is_held_out_from_all(labelled_records, runs, tmp_path):
    network = trained(labelled_records, FINE_TUNING)
    fuse([*runs, network], labelled_records, tmp_path / "fused", "auc")
    assert decision_of(tmp_path / "fused").evidence["images"] == len(network.splits["validation"])


def test_it_is_evaluated_like_a_run(labelled_records, runs, tmp_path):
    fused = fuse(runs, labelled_records, tmp_path / "fused")
    folder = evaluate_classifier(fused, labelled_records, "test")
    assert folder == tmp_path / "fused" / "evaluation" / "test"
    assert sorted(read_probabilities(folder, "image").names) == sorted(runs[0].splits["test"])


def test_a_run_that_is_missing_afterwards_is_named(labelled_records, runs, tmp_path):
    own = [Run(shutil.copytree(run.folder, tmp_path / f"run{number}")) for number, run in enumerate(runs)]
    fuse(own, labelled_records, tmp_path / "fused")
    shutil.rmtree(own[1].folder)
    with pytest.raises(RunError, match="run1: expected a run folder, found nothing"):
        load_classifier(tmp_path / "fused")


def test_a_run_that_was_trained_anew_is_not_the_one_that_was_fused(labelled_records, runs, tmp_path):
    own = [Run(shutil.copytree(run.folder, tmp_path / f"run{number}")) for number, run in enumerate(runs)]
    fuse(own, labelled_records, tmp_path / "fused")
    own[1].update(started="2000-01-01T00:00:00+00:00")
    with pytest.raises(RunError, match=r"not those that were fused.*ustoolkit fuse"):
        load_classifier(tmp_path / "fused")


@pytest.mark.parametrize("change", [{"runs": []}, {"fusion": {}}, {"labels": ["a", "b"]}, {"runs": 3}, {"runs": [3]}])
def test_a_damaged_fusion_is_answered(labelled_records, runs, tmp_path, change):
    fuse(runs, labelled_records, tmp_path / "fused")
    path = tmp_path / "fused" / "fusion.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RunError, match=r"fusion.json: .*ustoolkit fuse"):
        load_classifier(tmp_path / "fused")


class TestWhatIsRefused:
    def refused(self, folders, records, out, answer, how="equal"):
        with pytest.raises(RunError, match=answer):
            fuse_runs(folders, out, how, records, FIND)
        assert not out.exists()

    def test_fewer_than_two_runs(self, labelled_records, runs, tmp_path):
        for folders in ([runs[0].folder], [runs[0].folder, runs[0].folder / ".." / runs[0].folder.name]):
            self.refused(folders, labelled_records, tmp_path / "fused", "two runs or more, each once")

    def test_an_unknown_way(self, labelled_records, runs, tmp_path):
        folders = [run.folder for run in runs]
        self.refused(folders, labelled_records, tmp_path / "fused", "--how simplx.*simplex", "simplx")

    def test_a_run_that_segments(self, labelled_records, runs, trained_run, tmp_path):
        folders = [runs[0].folder, trained_run.folder]
        self.refused(folders, labelled_records, tmp_path / "fused", "expected a run that classifies")

    def test_other_records(self, records, runs, tmp_path):
        self.refused([run.folder for run in runs], records, tmp_path / "fused", "was not trained on")

    def test_another_split(self, labelled_records, runs, tmp_path):
        write_splits(tmp_path / "splits.json", split_patients(labelled_records.index, 0.25, 0.25, seed=5), {})
        other = Run(shutil.copytree(runs[1].folder, tmp_path / "other"))
        begun = start_run(recipe_of(MEASURES), labelled_records, tmp_path / "begun", tmp_path / "splits.json")
        shutil.copy(begun.folder / "splits.json", other.folder)
        self.refused([runs[0].folder, other.folder], labelled_records, tmp_path / "fused", "its split differs")

    def test_other_labels(self, labelled_records, runs, tmp_path):
        other = Run(shutil.copytree(runs[1].folder, tmp_path / "other"))
        other.update(labels=["malignant", "benign"])
        self.refused(
            [runs[0].folder, other.folder], labelled_records, tmp_path / "fused", "its labels differ|estimator"
        )

    def test_lesions_that_are_found_in_another_way(self, labelled_records, runs, tmp_path):
        other = Run(shutil.copytree(runs[1].folder, tmp_path / "other"))
        recipe = (other.folder / "recipe.toml").read_text()
        (other.folder / "recipe.toml").write_text(recipe.replace('source = "truth"', 'source = "box"'))
        self.refused([runs[0].folder, other.folder], labelled_records, tmp_path / "fused", "expected .*'truth'.*'box'")


def test_where_one_needs_no_lesion_the_others_say_where_it_is(labelled_records, runs):
    whole = trained(labelled_records, BOTTLENECK, "classification.region.source=image")
    classifiers = [RunClassifier(run) for run in (whole, runs[1])]
    assert not classifiers[0].needs_lesion and looked_at(classifiers).source == "truth"
    assert looked_at(classifiers[:1]).source == "image"
