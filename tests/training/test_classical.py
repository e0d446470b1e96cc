"""Runs that train no network: measurements or frozen features into a classifier of scikit-learn, without a leak."""

import csv
import shutil

import numpy as np
import pytest
import tf_keras as keras

from tests.classifiers import BOTTLENECK, MEASURES, finished, recipe_of, trained
from ustoolkit.data.expand import expand_records
from ustoolkit.data.features import feature_names
from ustoolkit.data.leaks import groups
from ustoolkit.data.lesions import known_lesions
from ustoolkit.data.records import Records
from ustoolkit.data.split import read_splits
from ustoolkit.errors import DataError, RecordsError
from ustoolkit.inference.classifier import decision_of
from ustoolkit.models import build_model
from ustoolkit.models.estimator import ChosenEstimator
from ustoolkit.recipe.data_set import ExpansionSettings
from ustoolkit.run import Run
from ustoolkit.training import classical
from ustoolkit.training.classical import train_classical
from ustoolkit.training.start import resume_run, start_run


@pytest.fixture(scope="module", params=["bottleneck", "measures"])
def run(request, labelled_records):
    return trained(labelled_records, {"bottleneck": BOTTLENECK, "measures": MEASURES}[request.param])


def out_of_fold(run):
    with (run.folder / "out_of_fold.csv").open(newline="") as file:
        return {row["source_id"]: float(row["malignant"]) for row in csv.DictReader(file)}


def test_it_leaves_a_whole_run(run):
    state = Run(run.folder).state
    assert state["status"] == "finished" and state["estimator"]["name"] == "logistic"
    assert 0 <= state["best_validation_auc"] <= 1 and state["training_seconds"] > 0
    estimator = ChosenEstimator.load(run.estimator)
    assert estimator.labels == ("benign", "malignant") and estimator.folds == 2
    assert (run.folder / "decision.json").is_file()
    measures = run.recipe.model.name == "lesion_features"
    assert run.best_weights.is_file() != measures
    if measures:
        assert estimator.feature_names == feature_names(run.recipe.model.families)


def test_out_of_fold_are_the_training_images_and_none_that_was_made(run):
    found = out_of_fold(run)
    assert sorted(found) == sorted(run.splits["train"])
    assert all(0 < value < 1 for value in found.values())


def test_the_network_stays_as_it_began(labelled_records):
    run = trained(labelled_records, BOTTLENECK)
    keras.utils.set_random_seed(run.recipe.training.seed)
    expected, found = build_model(run.recipe, 2), build_model(run.recipe, 2)
    found.load_weights(run.best_weights)
    assert all(map(np.array_equal, expected.get_weights(), found.get_weights()))


def test_nothing_that_was_made_comes_from_outside_the_training_part(labelled_records):
    """Each copy's name and group lead to a training image; there are no other images that a fit could see."""
    run = trained(labelled_records, BOTTLENECK)
    kept = np.load(run.features("train"))
    names, train = kept["source_ids"].tolist(), set(run.splits["train"])
    made = [name for name in names if name not in train]
    assert len(names) == run.state["training_images"] == 60 and len(made) == 60 - len(train) > 0
    assert {name.rpartition("+")[0] for name in made} <= train
    held_out = {*run.splits["validation"], *run.splits["test"]}
    group_of, patient_of = groups(labelled_records.index), {r.source_id: r.patient_id for r in labelled_records.index}
    learned = {group_of[patient_of[name.rpartition("+")[0] or name]] for name in names}
    assert not learned & {group_of[patient_of[name]] for name in held_out}
    assert np.load(run.features("validation"))["source_ids"].tolist() == sorted(run.splits["validation"])


@pytest.fixture
def handed_over(monkeypatch):
    """What the choice of a classifier is given, while it goes on as ever."""
    given, choose = {}, classical.choose_estimator

    def seen(features, truth, groups, settings, seed, **more):
        given.update(more, features=features, truth=truth, groups=groups)
        return choose(features, truth, groups, settings, seed, **more)

    monkeypatch.setattr(classical, "choose_estimator", seen)
    return given


@pytest.mark.parametrize("smote", ["pixels", "features"])
def test_copies_keep_their_patient_and_mixtures_are_marked(labelled_records, tmp_path, handed_over, smote):
    recipe = recipe_of(BOTTLENECK, f"classification.balance.smote={smote}")
    run = start_run(recipe, labelled_records, tmp_path / "run")
    finished(run, labelled_records)
    group_of, rows = groups(labelled_records.index), {row.source_id: row for row in labelled_records.index}
    for name, group, made in zip(handed_over["source_ids"], handed_over["groups"], handed_over["made"], strict=True):
        origin = name.rpartition("+")[0] or name
        assert made == (name not in rows)
        assert group == (origin if origin.startswith("synthetic") else group_of[rows[origin].patient_id])
        assert origin.startswith("synthetic") or origin in run.splits["train"]
    assert any(name.startswith("synthetic") for name in handed_over["source_ids"]) == (smote == "pixels")


def test_copies_that_the_records_hold_already_are_trained_on_and_never_scored(labelled_records, tmp_path, handed_over):
    splits = read_splits(labelled_records.folder / "splits.json", labelled_records)
    settings = ExpansionSettings(method="augment", count=31)
    expanded = expand_records(labelled_records, splits, tmp_path / "expanded", settings, workers=1)
    for form, changes in ((MEASURES, ()), (BOTTLENECK, ("classification.balance.expand_to=0",))):
        run = start_run(recipe_of(form, *changes), expanded, tmp_path / form[0])
        finished(run, expanded)
        made = dict(zip(handed_over["source_ids"], handed_over["made"], strict=True))
        assert len(made) == 31 and {name for name in made if not made[name]} == set(splits["train"])
        assert set(out_of_fold(run)) == set(splits["train"])


def test_the_same_seed_gives_the_same_probabilities(labelled_records, tmp_path, run):
    again = start_run(run.recipe, labelled_records, tmp_path / "again")
    finished(again, labelled_records)
    assert out_of_fold(again) == pytest.approx(out_of_fold(run), abs=0.01)
    decisions = [decision_of(folder.folder) for folder in (again, run)]
    assert decisions[0].temperature == pytest.approx(decisions[1].temperature, rel=0.05)


def test_a_run_that_was_killed_goes_on_with_the_features_that_are_there(labelled_records, tmp_path, monkeypatch):
    run = trained(labelled_records, BOTTLENECK)
    killed = tmp_path / "killed"
    shutil.copytree(run.folder, killed)
    shutil.rmtree(killed / "estimator")
    for name in ("out_of_fold.csv", "decision.json"):
        (killed / name).unlink()
    Run(killed).update(status="started")
    times = [Run(killed).features(part).stat().st_mtime_ns for part in ("train", "validation")]
    monkeypatch.setattr(classical, "give_first_weights", None)  # the features are of the weights that are there
    finished(resume_run(labelled_records, killed), labelled_records)
    assert [Run(killed).features(part).stat().st_mtime_ns for part in ("train", "validation")] == times
    assert (killed / "decision.json").read_bytes() == (run.folder / "decision.json").read_bytes()


def test_a_run_that_replaces_another_takes_nothing_over(labelled_records, tmp_path):
    folder = shutil.copytree(trained(labelled_records, MEASURES).folder, tmp_path / "run")
    start_run(recipe_of(BOTTLENECK), labelled_records, folder, overwrite=True)
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["manifest.json", "recipe.toml", "run.json", "splits.json"]


@pytest.mark.parametrize(
    ("form", "changes", "error", "answer"),
    [
        (MEASURES, ["classification.region.source=box"], DataError, "'lesion_box'"),
        (BOTTLENECK, ["classification.region.source=box"], DataError, "'lesion_box'"),
        (BOTTLENECK, ["classification.balance.expand_to=20"], RecordsError, "expand_to"),
    ],
)
def test_a_run_that_cannot_begin_leaves_nothing_behind(labelled_records, tmp_path, form, changes, error, answer):
    run = start_run(recipe_of(form, *changes), labelled_records, tmp_path / "run")
    with pytest.raises(error, match=answer):
        train_classical(run, labelled_records, find=known_lesions(run.recipe.classification.region))
    assert not run.folder.exists()


def test_too_few_images_for_smote_leave_nothing_behind(records: Records, tmp_path):
    """The thirty phantoms have five malignant images to train on."""
    for form in (BOTTLENECK, MEASURES):
        changes = ["classification.balance.smote=features"]
        changes += ["classification.balance.expand_to=0"] if form is BOTTLENECK else []
        run = start_run(recipe_of(form, *changes), records, tmp_path / "run")
        with pytest.raises(
            RecordsError, match="'malignant': Borderline-SMOTE2 needs at least 6 training images, found"
        ):
            train_classical(run, records)
        assert not run.folder.exists()
