"""A step's parts, precision, compiler and averages change how it is computed, not what."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorflow.python.framework import config

from tests.conftest import TINY
from ustoolkit.errors import RecipeError, RunError
from ustoolkit.recipe import load_recipe
from ustoolkit.recipe.training import TrainingSettings
from ustoolkit.training.averaging import WeightAverage
from ustoolkit.training.optimizers import make_optimizer
from ustoolkit.training.start import resume_run, start_run
from ustoolkit.training.strategy import make_strategy
from ustoolkit.training.trainer import Training

EXACT = (*TINY, "training.optimizer=sgd", "model.normalization=none", "model.dropout=0.0", "training.batch_size=6")


@pytest.fixture(autouse=True)
def _not_deterministic_for_ever():
    """TensorFlow switches that on for the whole process, and other tests' operations then ask for seeds."""
    yield
    config.disable_op_determinism()


def stepped(records, folder, *changes: str, steps: int = 2) -> tuple[list[float], Training]:
    run = start_run(load_recipe("demo", [*EXACT, *changes]), records, folder)
    training = Training(run, records, make_strategy("one"))
    losses = [float(training.step.train(batch)) for batch in training.task.training.epoch(0).take(steps)]
    return losses, training


@pytest.fixture(scope="module")
def plain(records, tmp_path_factory):
    """Losses and weights of two steps with batches whole."""
    losses, training = stepped(records, tmp_path_factory.mktemp("plain") / "run")
    return losses, training.learner.model.get_weights()


@pytest.mark.parametrize(
    "changes",
    [
        ["training.branches=3"],
        ["training.branches=4"],  # parts of one image and of two
        ["training.accumulation=3"],
        ["training.accumulation=3", "training.branches=2"],
        ["training.xla=true"],
        ["training.deterministic=true"],
        ["training.clip_norm=1e6"],
    ],
)
def test_the_gradients_are_those_of_the_whole_batch(records, tmp_path, plain, changes):
    losses, training = stepped(records, tmp_path / "run", *changes)
    np.testing.assert_allclose(losses, plain[0], rtol=1e-5)
    for expected, found in zip(plain[1], training.learner.model.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_penalties_count_once_however_many_parts(records, tmp_path):
    weights = []
    for name, change in (("whole", "training.branches=1"), ("parts", "training.branches=3")):
        _, training = stepped(records, tmp_path / name, change, "training.weight_decay=0.1", steps=1)
        weights.append(training.learner.model.get_weights())
    for expected, found in zip(*weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_more_parts_than_images_are_refused(records, tmp_path):
    run = start_run(load_recipe("demo", [*EXACT, "training.branches=7"]), records, tmp_path / "run")
    with pytest.raises(RecipeError, match="7 parts"):
        Training(run, records, make_strategy("one"))
    assert not run.folder.exists()  # so that the command can be given again with another number


def test_validation_in_parts_scores_each_image_alike(records, tmp_path):
    """All images but one, then the one that is left, which no four parts can share."""
    found = []
    for name, changes in {"whole": (), "parts": ("training.branches=2", "training.accumulation=2")}.items():
        _, training = stepped(records, tmp_path / name, *changes, "training.batch_size=5", steps=0)
        outputs = [training.step.validate(batch).numpy() for batch in training.task.validation.epoch(0)]
        assert [len(each) for each in outputs] == [5, 1]
        found.append(np.concatenate(outputs))
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)


def test_float16_scales_the_loss_and_skips_a_step_without_numbers(records, tmp_path):
    _, training = stepped(records, tmp_path / "run", "training.precision=float16", steps=0)
    optimizer, model = training.learner.optimizer, training.learner.model
    assert isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
    before, scale = model.get_weights(), float(optimizer.loss_scale)
    assert scale > 1000
    (images, masks), *_ = training.task.training.epoch(0).take(1)
    training.step.train((images * np.inf, masks))
    for kept, found in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, kept)
    assert float(optimizer.loss_scale) < scale
    losses = [float(training.step.train((images, masks))) for _ in range(4)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def small_model() -> keras.Model:
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    model.layers[0].set_weights([np.zeros((3, 2)), np.zeros(2)])
    return model


def set_all(model: keras.Model, value: float) -> None:
    for weight in model.weights:
        weight.assign(tf.fill(weight.shape, value))


def test_the_exponential_average_by_hand():
    model = small_model()
    set_all(model, 1.0)
    average = WeightAverage(model, TrainingSettings(averaging="ema", averaging_decay=0.5))
    expected = 1.0
    for number, value in enumerate((2.0, 5.0, 3.0, 8.0)):
        set_all(model, value)
        average.after_step()
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * value
    with average.in_place():
        for weight in model.get_weights():
            np.testing.assert_allclose(weight, expected, rtol=1e-6)
    for weight in model.get_weights():
        np.testing.assert_array_equal(weight, 8.0)


def test_the_mean_over_epochs_begins_where_it_is_told_to():
    model = small_model()
    average = WeightAverage(model, TrainingSettings(averaging="swa", averaging_start=0.5))
    for value, done, expected in ((1.0, 0.25, 1.0), (3.0, 0.5, 3.0), (5.0, 0.75, 4.0), (7.0, 1.0, 5.0)):
        set_all(model, value)
        average.after_step()
        average.after_epoch(done)
        with average.in_place():
            np.testing.assert_allclose(np.concatenate([w.ravel() for w in model.get_weights()]), expected, rtol=1e-6)


def test_averages_give_way_to_the_weights_after_an_error():
    model = small_model()
    average = WeightAverage(model, TrainingSettings(averaging="ema"))
    set_all(model, 2.0)
    with pytest.raises(KeyError), average.in_place():
        raise KeyError
    assert all((weight == 2.0).all() for weight in model.get_weights())


def test_a_long_gradient_is_shortened_as_a_whole():
    weights = [tf.Variable([1.0, 1.0]), tf.Variable([1.0])]
    optimizer = make_optimizer(TrainingSettings(optimizer="sgd", clip_norm=1.0), 1.0, "float32")
    optimizer.apply_gradients(zip([tf.constant([3.0, 0.0]), tf.constant([4.0])], weights, strict=True))
    np.testing.assert_allclose(np.concatenate([weight.numpy() for weight in weights]), [0.4, 1.0, 0.2], rtol=1e-6)


def test_adamw_shrinks_kernels_and_nothing_else():
    model = small_model()
    set_all(model, 1.0)
    optimizer = make_optimizer(TrainingSettings(optimizer="adamw", weight_decay=0.1), 0.5, "float32")
    weights = model.trainable_variables
    optimizer.apply_gradients([(tf.zeros_like(weight), weight) for weight in weights])
    for weight in weights:
        expected = 1.0 - 0.5 * 0.1 if "kernel" in weight.name else 1.0
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6)


class Hungry:
    """A loss that asks for a number's memory where there are 4 images, and for more than can be addressed beyond."""

    def __init__(self, loss) -> None:
        self.loss = loss

    def __call__(self, logits: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        beyond = tf.cast(tf.clip_by_value(tf.shape(masks)[0] - 4, 0, 1), tf.int64)
        eaten = tf.random.stateless_uniform([1 + beyond * 2**46], [1, 2])
        return self.loss(logits, masks) + 0.0 * tf.reduce_max(eaten)


HUNGRY = ("training.batch_size=16", "training.epochs=1", "training.checkpoint_minutes=0")


@pytest.mark.slow  # TensorFlow waits ten seconds each time before it gives up
def test_parts_get_smaller_until_the_memory_suffices(records, tmp_path):
    weights = []
    for name, loss in (("plain", lambda loss: loss), ("hungry", Hungry)):
        run = start_run(load_recipe("demo", [*EXACT, *HUNGRY]), records, tmp_path / name)
        said = []
        training = Training(run, records, make_strategy("one"), say=said.append)
        training.task.training_loss = loss(training.task.training_loss)
        training.fit()
        weights.append(training.learner.model.get_weights())
    assert training.step.accumulation == 4 and run.state["accumulation"] == 4
    assert [line.split(":")[0] for line in said] == ["out of memory"] * 2 and "4 parts" in said[-1]
    assert run.state["status"] == "finished" and len(run.read_history()) == 1
    for expected, found in zip(*weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    resumed = Training(resume_run(records, run.folder), records, make_strategy("one"))
    assert resumed.step.accumulation == 4


@pytest.mark.slow  # TensorFlow waits ten seconds each time before it gives up
def test_too_little_memory_for_one_image_is_said(records, tmp_path):
    run = start_run(load_recipe("demo", [*EXACT, "training.batch_size=2"]), records, tmp_path / "run")
    training = Training(run, records, make_strategy("one"))
    loss = training.task.training_loss
    training.task.training_loss = lambda *found: (
        loss(*found) + tf.reduce_max(tf.random.stateless_uniform([2**46], [1, 2]))
    )
    with pytest.raises(RunError, match=r"one image at a time.*data\.image_size"):
        training.fit()
