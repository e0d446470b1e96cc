"""Training end to end on tiny phantoms: it learns, it can be interrupted, and devices do not matter."""

import contextlib
import gc
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.conftest import TINY
from ustoolkit.data.pipeline import Batches
from ustoolkit.data.reading import Readers
from ustoolkit.data.records import Records
from ustoolkit.data.split import write_splits
from ustoolkit.errors import RecipeError, RecordsError, RunError
from ustoolkit.files import read_json
from ustoolkit.models import build_model
from ustoolkit.models.heads import FULL, HALF
from ustoolkit.models.load import load_model
from ustoolkit.recipe import load_recipe
from ustoolkit.run import Run
from ustoolkit.training.losses import hard_dice
from ustoolkit.training.start import start_run
from ustoolkit.training.tasks import SegmentationTask
from ustoolkit.training.trainer import train


def weights_of(run: Run, which: str = "last") -> list[np.ndarray]:
    model = load_model(run)
    if which == "last":
        model.load_weights(run.last_weights)
    return model.get_weights()


def test_training_lowers_the_loss_and_leaves_a_whole_run(trained_run):
    history = trained_run.read_history()
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[-1]["loss"] < history[0]["loss"]
    state = Run(trained_run.folder).state
    assert state["status"] == "finished" and state["best_validation_dice"] == max(
        row["validation_dice"] for row in history
    )
    assert state["trainable_weights"] > 0 and state["multiply_adds"] > state["trainable_weights"]
    assert trained_run.best_weights.is_file() and any((trained_run.folder / "tensorboard").iterdir())
    assert not list(trained_run.folder.glob("unfinished*"))


def test_the_best_weights_are_those_of_the_best_epoch(records, trained_run, tmp_path):
    """With another seed too, so that the best epoch is not by chance the one that is kept wrongly."""
    run = start_run(load_recipe("demo", [*TINY, "training.seed=5"]), records, tmp_path / "run")
    train(run, records)
    for each in (trained_run, run):
        model = load_model(each)
        scores = []
        for images, masks in Batches(records, each.splits["validation"], each.recipe, training=False).epoch(0):
            scores.extend(hard_dice(model(images, training=False), masks).numpy())
        assert np.mean(scores) == pytest.approx(each.state["best_validation_dice"], abs=1e-5)
        assert each.state["best_validation_dice"] == max(row["validation_dice"] for row in each.read_history())


def test_what_was_tuned_goes_with_the_weights_that_it_was_tuned_for(records, tmp_path):
    run = start_run(load_recipe("demo", [*TINY, "training.epochs=1"]), records, tmp_path / "run")
    run.keep_tuned("threshold", {"threshold": 0.3}, {})
    train(run, records)
    assert run.tuned == {"inference": {}, "evidence": {}} and run.inference == run.recipe.inference


@pytest.fixture
def finished(trained_run, tmp_path):
    """A copy of the finished run, to change."""
    return Run(shutil.copytree(trained_run.folder, tmp_path / "finished"))


def test_a_part_without_images_is_refused_before_an_old_run_is_touched(records, finished, tmp_path):
    parts = {**finished.splits, "validation": []}
    write_splits(tmp_path / "splits.json", parts, {})
    before = finished.best_weights.read_bytes()
    for out, overwrite in ((finished.folder, True), (tmp_path / "new", False)):
        with pytest.raises(RecordsError, match="validation"):
            start_run(finished.recipe, records, out, tmp_path / "splits.json", overwrite)
    assert finished.best_weights.read_bytes() == before and not (tmp_path / "new").exists()


@pytest.mark.slow
def test_bfloat16_learns_and_its_weights_serve_in_single(records, tmp_path):
    run = start_run(load_recipe("demo", [*TINY, "training.precision=bfloat16"]), records, tmp_path / "run")
    train(run, records)
    history = run.read_history()
    assert history[-1]["loss"] < history[0]["loss"]
    assert {array.dtype for array in weights_of(run)} <= {np.dtype(np.float32), np.dtype(np.int32)}
    images, _ = next(iter(Batches(records, run.splits["validation"], run.recipe, training=False).epoch(0)))
    assert np.isfinite(load_model(run)(images)).all()


@pytest.mark.slow
def test_each_scale_is_supervised_by_its_weight(records, tmp_path):
    kernels = {}
    for weight in ("0.0", "0.5"):
        settings = [*TINY, "model.scales=2", "training.epochs=1", f"loss.scale_weights=[1.0, {weight}]"]
        run = start_run(load_recipe("demo", settings), records, tmp_path / weight)
        train(run, records)
        keras.utils.set_random_seed(run.recipe.training.seed)
        untrained, trained = build_model(run.recipe, 2), load_model(run)
        for name in (FULL, HALF):
            before, after = (model.get_layer(f"{name}_conv").get_weights()[0] for model in (untrained, trained))
            kernels[name, weight] = np.abs(after - before).max()
    assert kernels[FULL, "0.0"] > 0 and kernels[HALF, "0.0"] == 0
    assert kernels[FULL, "0.5"] > 0 and kernels[HALF, "0.5"] > 0


def test_as_many_class_weights_as_classes_are_needed(records, tmp_path):
    settings = [*TINY, "loss.class_weights=[1.0, 2.0, 3.0]", "loss.terms={ cross_entropy = 1.0 }"]
    with pytest.raises(RecipeError, match=r"class_weights.*3"):
        train(start_run(load_recipe("demo", settings), records, tmp_path / "run"), records)


def test_a_loss_that_is_no_number_says_so(records, tmp_path):
    recipe = load_recipe("demo", [*TINY, "training.optimizer=sgd", "model.normalization=none"])
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"learning_rate": 1e30})})
    with pytest.raises(RunError, match="learning_rate"):
        train(start_run(recipe, records, tmp_path / "run"), records)


@pytest.mark.skipif(os.name != "posix", reason="processes are started on POSIX systems only")
def test_what_goes_wrong_in_the_pipeline_is_told_as_it_is(records, tmp_path, monkeypatch):
    run = start_run(load_recipe("demo", [*TINY, "augmentation.workers=2"]), records, tmp_path / "run")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunError, match=r"could not be started.*--set augmentation\.workers=1"):
        train(run, records)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks for open files and processes in /proc")
def test_training_leaves_neither_processes_nor_its_cache(records, tmp_path):
    def held(folder):
        return _children(), [path for path in _open_files() if path.startswith(str(folder))]

    others, _ = held(tmp_path)  # of tests before this one
    changes = ["training.epochs=1", "augmentation.workers=2", "augmentation.shear_degrees=3.25", "data.cache=disk"]
    recipe = load_recipe("demo", [*TINY, *changes])
    run = start_run(recipe, records, tmp_path / "run")
    task = SegmentationTask(run, records, recipe, Readers())
    list(task.training.epoch(0))
    children, files = held(run.folder)
    begun = set(children) - set(others)
    assert begun and files  # which is where they are found
    del task
    train(run, records)
    gc.collect()
    assert run.state["status"] == "finished"
    children, files = held(run.folder)
    assert not begun & set(children) and not files


def _children() -> list[str]:
    return [
        process for task in Path("/proc/self/task").iterdir() for process in (task / "children").read_text().split()
    ]


def _open_files() -> list[str]:
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(path.readlink()))
    return found


def test_a_damaged_shard_is_found_before_training(records, tmp_path, tiny_recipe):
    copy = tmp_path / "records"
    shutil.copytree(records.folder, copy)
    shard = next(copy.glob("*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(RecordsError, match=shard.name):
        start_run(tiny_recipe, Records(copy), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_run_keeps_what_reproduces_it(trained_run, records):
    assert Run(trained_run.folder).recipe == load_recipe("demo", TINY)
    state = read_json(trained_run.folder / "run.json", RunError, "")
    assert state["seed"] == 0 and state["versions"]["tensorflow"] == tf.__version__
    assert trained_run.manifest["digest"] == records.digest
    assert len(trained_run.trained_on) == len(trained_run.splits["train"]) + len(trained_run.splits["validation"])


def test_hard_dice_by_hand():
    mask = np.array([[[1, 1], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]], np.uint8)
    logits = np.array([[[1, -1], [1, -1]], [[-1, -1], [-1, -1]], [[1, -1], [-1, -1]]], np.float32)[..., np.newaxis]
    np.testing.assert_allclose(hard_dice(logits, mask), [0.5, 1.0, 0.0])


def test_hard_dice_of_the_wrong_class_is_nothing():
    mask = np.ones((1, 2, 2), np.uint8)
    says_two = np.zeros((1, 2, 2, 3), np.float32)
    says_two[..., 2] = 9
    says_one = says_two[..., [0, 2, 1]]
    np.testing.assert_allclose(hard_dice(says_two, mask), [0.0])
    np.testing.assert_allclose(hard_dice(says_one, mask), [1.0])
