"""A network learns to classify: head first, then open layers; interrupted, it goes on as if it had not been."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.classifiers import FINE_TUNING, finished, recipe_of, trained
from ustoolkit.data.lesions import known_lesions
from ustoolkit.data.split import write_splits
from ustoolkit.errors import DataError, RecipeError, RecordsError, RunError
from ustoolkit.models import build_model
from ustoolkit.models.classifiers import BACKBONE, FEATURES, backbone_layers, features_of
from ustoolkit.models.load import load_model
from ustoolkit.recipe.classification import BalanceSettings
from ustoolkit.run import Run
from ustoolkit.training.features import bottleneck_features
from ustoolkit.training.head import train_head
from ustoolkit.training.label_loss import label_cross_entropy, label_weights
from ustoolkit.training.start import resume_run, start_run
from ustoolkit.training.strategy import make_strategy
from ustoolkit.training.tasks import ClassificationTask
from ustoolkit.training.trainer import train


@pytest.fixture(scope="module")
def run(labelled_records):
    return trained(labelled_records, FINE_TUNING)


def begun(records, folder, *changes):
    return start_run(recipe_of(FINE_TUNING, *changes), records, folder)


def weights_of(run):
    model = load_model(run)
    model.load_weights(run.last_weights)
    return model.get_weights()


def same(first, second):
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_training_lowers_the_loss_and_leaves_a_whole_run(run):
    history = run.read_history()
    assert [row["epoch"] for row in history] == [1, 2, 3] and history[-1]["loss"] < history[0]["loss"]
    state = Run(run.folder).state
    assert state["status"] == "finished" and state["labels"] == ["benign", "malignant"]
    assert state["head"]["epochs"] == 3 and 0 <= state["head"]["validation_auc"] <= 1
    for name in ("best.weights.h5", "last.weights.h5", "decision.json", "features/train.npz", "splits.json"):
        assert (run.folder / name).is_file(), name
    assert not list(run.folder.glob("unfinished*")) and not (run.folder / "estimator").exists()


def test_the_best_weights_are_those_of_the_highest_validation_auc(labelled_records, run):
    history = run.read_history()
    best = max(history, key=lambda row: row["validation_auc"])
    assert run.state["best_validation_auc"] == best["validation_auc"] and run.state["best_epoch"] == best["epoch"]
    task = ClassificationTask(run, labelled_records, known_lesions(run.recipe.classification.region))
    model = load_model(run)
    outputs = [
        task.validation_outputs(model(images, training=False), truth) for images, truth in task.validation.epoch(0)
    ]
    loss, auc = task.validation_scores(np.concatenate(outputs))
    assert auc == pytest.approx(best["validation_auc"], abs=1e-6)
    assert loss == pytest.approx(best["validation_loss"], abs=1e-5)


class Interrupted(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("after", ["in the head", 0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(labelled_records, run, tmp_path, monkeypatch, after):
    """Killed while the head is trained, before the first epoch ends, and later."""
    halved = begun(labelled_records, tmp_path / "halved")
    if after == "in the head":

        def interrupt(*_, **__):
            raise Interrupted

        with monkeypatch.context() as patched, pytest.raises(Interrupted):
            patched.setattr(keras.Model, "fit", interrupt)
            train(halved, labelled_records)
        assert not halved.checkpoints.exists()
        features = halved.features("train").stat().st_mtime_ns
    else:
        write_history, update = halved.write_history, halved.update

        def interrupt_after(rows):
            write_history(rows)
            if len(rows) == after:
                raise Interrupted

        def interrupt_at_the_start(**state):
            update(**state)
            if after == 0 and state.get("status") == "training":
                raise Interrupted

        halved.write_history, halved.update = interrupt_after, interrupt_at_the_start
        with pytest.raises(Interrupted):
            train(halved, labelled_records)
    finished(resume_run(labelled_records, halved.folder), labelled_records)
    if after == "in the head":  # what was computed is not computed again
        assert halved.features("train").stat().st_mtime_ns == features
    halved = Run(halved.folder)
    assert same(weights_of(run), weights_of(halved))
    assert halved.state["head"] == run.state["head"]
    assert halved.state["best_validation_auc"] == run.state["best_validation_auc"]
    assert (halved.folder / "decision.json").read_bytes() == (run.folder / "decision.json").read_bytes()


def test_the_head_phase_changes_the_head_alone(labelled_records, tmp_path):
    run = begun(labelled_records, tmp_path / "run", "classification.transfer.head_epochs=5")
    task = ClassificationTask(run, labelled_records, known_lesions(run.recipe.classification.region))
    strategy = make_strategy("one")
    with strategy.scope():
        model = build_model(run.recipe, 2)
    before = {weight.name: weight.numpy() for weight in model.get_layer(BACKBONE).weights}
    head = model.get_layer("logits_dense").get_weights()
    line = train_head(model, task, run, strategy)
    assert "5 epochs" in line
    assert all(np.array_equal(before[weight.name], weight.numpy()) for weight in model.get_layer(BACKBONE).weights)
    assert not np.array_equal(head[0], model.get_layer("logits_dense").get_weights()[0])
    # What is kept is the epoch of the lowest validation loss, of the whole network too.
    regions = task.regions[1]
    logits = model(regions.inputs(run.recipe).astype(np.float32), training=False)
    losses = label_cross_entropy(None)(logits, tf.constant(regions.truth))
    assert run.state["head"]["validation_loss"] == pytest.approx(float(tf.reduce_mean(losses)), abs=1e-4)


@pytest.mark.parametrize("which", ["none", "3"])
def test_layers_that_are_not_open_stay_as_they_were(labelled_records, tmp_path, which):
    changes = (f"classification.transfer.open_layers={which}", "classification.transfer.head_epochs=0")
    run = begun(labelled_records, tmp_path / "run", *changes, "training.epochs=1")
    keras.utils.set_random_seed(run.recipe.training.seed)
    first = build_model(run.recipe, 2)
    train(run, labelled_records)
    last = load_model(run)
    opened = set() if which == "none" else set(backbone_layers(first)[-3:])
    for name in backbone_layers(first):
        before, after = (model.get_layer(BACKBONE).get_layer(name).get_weights() for model in (first, last))
        assert same(before, after) == (name not in opened), name
    assert "head" not in run.state


@pytest.mark.slow
def test_penalties_on_the_head_are_in_the_loss(labelled_records, tmp_path):
    def first_loss(*changes):
        still = ("classification.transfer.head_epochs=0", "training.epochs=1", "training.learning_rate=1e-12")
        run = begun(labelled_records, tmp_path / "-".join(("run", *changes)), *still, "model.l2=0", *changes)
        train(run, labelled_records)
        kernel = load_model(run).get_layer("logits_dense").get_weights()[0]
        return run.read_history()[0]["loss"], kernel

    plain, kernel = first_loss()
    penalties = 0.5 * np.abs(kernel).sum(), 2 * (kernel**2).sum()
    assert min(penalties) > 0.01
    assert first_loss("model.l1=0.5", "model.l2=2.0")[0] == pytest.approx(plain + sum(penalties), rel=1e-3)


def test_class_weights_by_hand():
    logits, truth = tf.constant([[0.0], [0.0], [2.0]]), tf.constant([0, 1, 1], tf.int64)
    plain = label_cross_entropy(None)(logits, truth).numpy()
    np.testing.assert_allclose(plain, [np.log(2), np.log(2), np.log1p(np.exp(-2))], rtol=1e-6)
    np.testing.assert_allclose(label_cross_entropy((1.0, 3.0))(logits, truth), plain * [1, 3, 3], rtol=1e-6)
    three = label_cross_entropy(None)(tf.constant([[0.0, 0.0, 0.0]]), tf.constant([2], tf.int64))
    np.testing.assert_allclose(three, [np.log(3)], rtol=1e-6)


def test_balanced_weights_make_labels_count_alike():
    labels, truth = ["a", "b"], np.array([0] * 9 + [1] * 3)
    assert label_weights(BalanceSettings(), truth, labels) is None
    weights = np.array(label_weights(BalanceSettings(class_weights="balanced"), truth, labels))
    assert 9 * weights[0] == pytest.approx(3 * weights[1])
    assert label_weights(BalanceSettings(class_weights=(1, 2)), truth, labels) == (1, 2)
    with pytest.raises(RecipeError, match="expected 2 numbers, for a, b; found 3"):
        label_weights(BalanceSettings(class_weights=(1, 2, 3)), truth, labels)


class TestFeatures:
    def test_they_are_what_the_network_makes_of_the_regions(self, labelled_records, run, tmp_path):
        task = ClassificationTask(run, labelled_records, known_lesions(run.recipe.classification.region))
        validation = task.regions[1]
        copy = Run(shutil.copytree(run.folder, tmp_path / "copy"))
        shutil.rmtree(copy.folder / "features")
        model = load_model(copy)
        found = bottleneck_features(model, validation, copy, "validation")
        assert found.shape == (len(validation.truth), model.get_layer(FEATURES).output_shape[-1])
        expected = features_of(model)(validation.inputs(copy.recipe).astype(np.float32), training=False)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    def test_they_are_kept_and_computed_again_for_other_images_or_from_a_damaged_file(
        self, labelled_records, run, tmp_path
    ):
        task = ClassificationTask(run, labelled_records, known_lesions(run.recipe.classification.region))
        train_part, validation = task.regions
        copy = Run(shutil.copytree(run.folder, tmp_path / "copy"))
        path, model = copy.features("validation"), load_model(copy)
        before = path.read_bytes()
        bottleneck_features(model, validation, copy, "validation")
        assert path.read_bytes() == before
        # Other weights now: only what is kept can still be what it was.
        first = np.load(path)["features"]
        model.set_weights([0.5 * weight for weight in model.get_weights()])
        np.testing.assert_array_equal(bottleneck_features(model, validation, copy, "validation"), first)
        other = bottleneck_features(model, train_part, copy, "validation")
        assert len(other) == len(train_part.truth)
        assert np.load(path)["source_ids"].tolist() == train_part.source_ids
        for damaged in (before[:200], b"no features", b"", before[:-30]):
            path.write_bytes(damaged)
            again = bottleneck_features(model, validation, copy, "validation")
            assert again.shape == first.shape and not np.array_equal(again, first)


@pytest.mark.parametrize(
    ("changes", "error", "answer"),
    [
        (["classification.balance.expand_to=20"], RecordsError, "expand_to of at least"),
        (["classification.region.source=box"], DataError, "'lesion_box'"),
        (["classification.transfer.open_layers=['block9']"], RecipeError, "no layer of densenet161 begins with"),
        (["classification.balance.class_weights=[1,2,3]"], RecipeError, "expected 2 numbers"),
    ],
)
def test_a_run_that_cannot_begin_leaves_nothing_behind(labelled_records, tmp_path, changes, error, answer):
    run = begun(labelled_records, tmp_path / "run", *changes)
    with pytest.raises(error, match=answer):
        train(run, labelled_records)
    assert not run.folder.exists()


def test_numbers_that_overflow_are_answered(labelled_records, tmp_path):
    changes = ("classification.transfer.head_epochs=0", "training.optimizer=sgd", "training.learning_rate=1e30")
    run = begun(labelled_records, tmp_path / "run", *changes)
    with pytest.raises(RunError, match=r"training\.learning_rate"):
        train(run, labelled_records)


class TestStart:
    def parts(self, records):
        by_label = {
            label: [r.source_id for r in records.index if r.label == label] for label in ("benign", "malignant")
        }
        return by_label["benign"], by_label["malignant"]

    def refused(self, records, tmp_path, splits, answer, *changes):
        write_splits(tmp_path / "splits.json", splits, {})
        out = tmp_path / "run"
        with pytest.raises(RecordsError, match=answer):
            start_run(recipe_of(FINE_TUNING, *changes), records, out, tmp_path / "splits.json", allow_leak=True)
        assert not out.exists()

    def test_a_part_of_one_label_is_refused(self, labelled_records, tmp_path):
        benign, malignant = self.parts(labelled_records)
        one = {"train": benign[:9] + malignant[:9], "validation": benign[9:12], "test": malignant[9:]}
        self.refused(labelled_records, tmp_path, one, "benign, malignant in the part 'validation', found only benign")
        one = {"train": benign[:9], "validation": benign[9:12] + malignant[:4], "test": []}
        self.refused(labelled_records, tmp_path, one, r"part 'train': .*'malignant' and others, found benign\.")

    def test_an_unknown_positive_label_is_refused_with_those_there_are(self, labelled_records, tmp_path):
        benign, malignant = self.parts(labelled_records)
        splits = {"train": benign[:9] + malignant[:9], "validation": benign[9:12] + malignant[9:12], "test": []}
        answer = "labelled 'cancer' and others, found benign, malignant"
        self.refused(labelled_records, tmp_path, splits, answer, "classification.positive=cancer")

    def test_labels_are_in_order_the_positive_one_last(self, labelled_records, tmp_path):
        run = start_run(recipe_of(FINE_TUNING, "classification.positive=benign"), labelled_records, tmp_path / "run")
        assert run.labels == Run(run.folder).labels == ["malignant", "benign"]
