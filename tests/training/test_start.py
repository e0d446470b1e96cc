"""The beginning of a run: which images of a split it uses, and which weights it starts from."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import TINY
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.records import write_records
from ustoolkit.data.split import read_splits, write_splits
from ustoolkit.errors import RecipeError, RecordsError, RunError
from ustoolkit.models import build_model
from ustoolkit.models.load import load_model
from ustoolkit.recipe import DataSetSettings, load_recipe
from ustoolkit.recipe.training import TrainingSettings
from ustoolkit.run import Run
from ustoolkit.training.start import draw_images, give_first_weights, resume_run, start_run
from ustoolkit.training.trainer import train

names = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=30, unique=True)


def in_order(few, all_of_them):
    """Whether a list is another with some items left out."""
    rest = iter(all_of_them)
    return all(item in rest for item in few)


@given(names, names, names, st.integers(0, 60), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_draw_keeps_order_counts_and_the_test_part(train, validation, test, images, seed):
    parts = {"train": train, "validation": validation, "test": test}
    drawn = draw_images(parts, TrainingSettings(images=images, seed=seed))
    assert drawn["test"] == test
    assert in_order(drawn["train"], train) and in_order(drawn["validation"], validation)
    if images:
        assert len(drawn["train"]) == min(images, len(train))
        assert len(drawn["validation"]) == min(max(1, images // 4), len(validation))
    else:
        assert drawn == parts
    assert draw_images(parts, TrainingSettings(images=images, seed=seed)) == drawn


def test_more_images_hold_those_of_fewer_and_another_seed_draws_others():
    parts = {"train": [f"{n}" for n in range(100)], "validation": [f"v{n}" for n in range(40)], "test": []}
    few, more = (draw_images(parts, TrainingSettings(images=images)) for images in (20, 60))
    assert set(few["train"]) < set(more["train"]) and set(few["validation"]) < set(more["validation"])
    other = draw_images(parts, TrainingSettings(images=20, seed=1))
    assert other["train"] != few["train"] and other["validation"] != few["validation"]


def test_every_image_is_as_likely_to_be_drawn():
    parts = {"train": [str(n) for n in range(8)], "validation": ["v"], "test": []}
    counts = dict.fromkeys(parts["train"], 0)
    for seed in range(800):
        for name in draw_images(parts, TrainingSettings(images=2, seed=seed))["train"]:
            counts[name] += 1
    # 200 each are expected, with a deviation of sqrt(800 * 1/4 * 3/4) = 12.2
    assert all(abs(count - 200) < 5 * 12.3 for count in counts.values()), counts


@pytest.mark.parametrize(("images", "train", "validation"), [(8, 8, 2), (1, 1, 1), (0, None, None), (1000, None, None)])
def test_a_run_holds_only_the_images_that_it_uses(records, tmp_path, images, train, validation):
    whole = read_splits(records.folder / "splits.json", records)
    recipe = load_recipe("demo", [*TINY, f"training.images={images}"])
    run = start_run(recipe, records, tmp_path / "run")
    assert len(run.splits["train"]) == (train or len(whole["train"]))
    assert len(run.splits["validation"]) == (validation or len(whole["validation"]))
    assert run.splits["test"] == whole["test"]
    used = {*run.splits["train"], *run.splits["validation"]}
    assert run.trained_on == {row.sha256 for row in records.index if row.source_id in used}
    assert resume_run(records, run.folder).splits == run.splits


class TestInitialWeights:
    """A run that starts from another one."""

    def recipe(self, source, *changes):
        return load_recipe("demo", [*TINY, f"training.initial_weights={source}", "training.epochs=1", *changes])

    def split(self, path, records, move):
        """The shared split, with a training image moved to the test part where asked."""
        parts = {part: list(ids) for part, ids in read_splits(records.folder / "splits.json", records).items()}
        if move:
            parts["test"] = [*parts["test"], parts["train"].pop(0)]
        write_splits(path, parts, {})
        return path, parts["test"][-1]

    def test_it_begins_with_the_best_weights_and_says_what_it_loaded(self, trained_run, records, tmp_path):
        run = start_run(self.recipe(trained_run.folder), records, tmp_path / "run")
        model = build_model(run.recipe, len(records.classes))
        (line,) = give_first_weights(model, run)
        ours, theirs = (
            # All but the counter of random numbers, which is no number that was learned.
            [weight.numpy().tobytes() for weight in each.weights if weight.dtype.is_floating]
            for each in (model, load_model(trained_run))
        )
        assert ours == theirs
        kept = Run(run.folder).state["initial_weights"]
        assert kept["run"] == str(trained_run.folder.resolve()) and kept["not_loaded"] == {}
        assert kept["loaded"] == len(kept["layers"]) and f"{kept['loaded']} of {kept['loaded']} layers" in line
        assert not Run(run.folder).state.get("warnings")

    def test_layers_of_another_shape_are_named(self, trained_run, records, tmp_path):
        run = start_run(self.recipe(trained_run.folder, "model.widths=[4,8,12]"), records, tmp_path / "run")
        (line,) = give_first_weights(build_model(run.recipe, 2), run)
        kept = Run(run.folder).state["initial_weights"]
        assert kept["not_loaded"]["encoder2_conv1"] == "shape (3, 3, 8, 8) there, (3, 3, 8, 12) here"
        assert "encoder0_conv1" in kept["layers"] and "not loaded: " in line

    def test_a_network_without_a_layer_in_common_is_refused(self, trained_run, records, tmp_path):
        changes = ["model.name=fcn_32s", "model.widths=[2,2,2,2,2]", "model.decoder_widths=[2,2,2,2,2]"]
        recipe = load_recipe("unet", ["data.image_size=[32,32]", *changes])
        settings = recipe.training.model_copy(update={"initial_weights": str(trained_run.folder)})
        run = start_run(recipe.model_copy(update={"training": settings}), records, tmp_path / "run")
        with pytest.raises(RecipeError, match="no such layer there"):
            give_first_weights(build_model(recipe, 2), run)

    def test_what_is_no_trained_run_is_refused_before_a_folder_is_made(self, trained_run, records, tmp_path):
        untrained = start_run(load_recipe("demo", TINY), records, tmp_path / "untrained")
        for source, says in ((tmp_path / "nowhere", "found nothing"), (untrained.folder, "found none")):
            with pytest.raises(RunError, match="initial_weights") as caught:
                start_run(self.recipe(source), records, tmp_path / "run")
            assert says in str(caught.value) and not (tmp_path / "run").exists()
        before = trained_run.best_weights.read_bytes()
        with pytest.raises(RecipeError, match="cannot start from itself"):
            start_run(self.recipe(trained_run.folder), records, trained_run.folder, overwrite=True)
        assert trained_run.best_weights.read_bytes() == before

    def test_what_the_other_run_saw_counts_as_seen(self, trained_run, records, tmp_path):
        recipe = self.recipe(trained_run.folder, "training.images=4")
        run = start_run(recipe, records, tmp_path / "run")
        own = {row.sha256 for row in records.index if row.source_id in {*run.splits["train"]}}
        assert own < run.trained_on == trained_run.trained_on

    def test_testing_on_what_the_other_run_saw_is_a_leak(self, trained_run, records, tmp_path):
        path, moved = self.split(tmp_path / "other.json", records, move=True)
        recipe = self.recipe(trained_run.folder)
        with pytest.raises(RecordsError, match=f"'{moved}' in 'test' is one of its images"):
            start_run(recipe, records, tmp_path / "run", path)
        assert not (tmp_path / "run").exists()
        state = start_run(recipe, records, tmp_path / "run", path, allow_leak=True).state
        assert any(moved in leak for leak in state["leaks"])
        assert any("saw images that are tested on" in warning for warning in state["warnings"])
        # Without the other run there is nothing wrong with that split.
        assert "leaks" not in start_run(load_recipe("demo", TINY), records, tmp_path / "alone", path).state

    def test_a_patient_that_the_other_run_saw_is_a_leak_too(self, phantom_folder, tmp_path):
        settings = DataSetSettings(patient=r"(.*)\d$")
        made = write_records(open_data_set(phantom_folder, settings), tmp_path / "set", settings, workers=1)
        patients: dict[str, list[str]] = {}
        for row in made.index:
            patients.setdefault(row.patient_id, []).append(row.source_id)
        first, second, third = (ids for ids in patients.values() if len(ids) > 3)
        write_splits(tmp_path / "first.json", {"train": first[:2], "validation": second, "test": third}, {})
        source = start_run(load_recipe("demo", TINY), made, tmp_path / "source", tmp_path / "first.json")
        source.best_weights.write_bytes(b"any")
        write_splits(tmp_path / "second.json", {"train": second, "validation": third, "test": first[2:]}, {})
        with pytest.raises(RecordsError, match="is in both 'its images' and 'test'"):
            start_run(self.recipe(source.folder), made, tmp_path / "run", tmp_path / "second.json", allow_leak=False)

    def test_other_pixel_values_are_warned_of(self, trained_run, records, tmp_path):
        recipe = self.recipe(trained_run.folder, "model.pixel_normalization=standardize")
        (warning,) = start_run(recipe, records, tmp_path / "run").state["warnings"]
        assert "pixel_normalization='unit'" in warning and "'standardize'" in warning

    @pytest.mark.slow
    def test_resuming_does_not_need_the_other_run(self, trained_run, records, tmp_path):
        source = shutil.copytree(trained_run.folder, tmp_path / "source")
        recipe = self.recipe(source, "training.learning_rate=1e-9")
        said = []

        class Interrupted(Exception):
            pass

        def interrupt(line):
            said.append(line)
            raise Interrupted

        run = start_run(recipe, records, tmp_path / "run")
        with pytest.raises(Interrupted):
            train(run, records, say=interrupt)
        shutil.rmtree(source)
        again = resume_run(records, run.folder)
        train(again, records, say=said.append)
        assert len(said) == 1
        # A rate of next to nothing leaves the weights where they began.
        for ours, theirs in zip(weights(again), weights(trained_run), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)

    def test_validating_on_what_the_other_run_learnt_from_is_said(self, trained_run, records, tmp_path):
        parts = {part: list(ids) for part, ids in read_splits(records.folder / "splits.json", records).items()}
        parts["validation"].append(parts["train"].pop(0))
        write_splits(tmp_path / "other.json", parts, {})
        recipe = self.recipe(trained_run.folder)
        (warning,) = start_run(recipe, records, tmp_path / "run", tmp_path / "other.json").state["warnings"]
        assert "learnt from 1 images of the validation part" in warning
        # What it was validated on it did not learn from.
        assert "warnings" not in start_run(recipe, records, tmp_path / "same").state


def weights(run):
    """What a run learned; statistics of normalizations move whatever the rate."""
    return [weight.numpy() for weight in load_model(run).trainable_weights]


def test_weights_that_do_not_suit_are_warned_of_and_those_missing_refused(records, tmp_path):
    settings = ["data.image_size=[32,32]", "model.name=fcn_8s"]
    run = start_run(load_recipe("unet", [*settings, "model.weights=imagenet"]), records, tmp_path / "run")
    assert any("pixel_normalization='imagenet_bgr'" in warning for warning in run.state["warnings"])
    with pytest.raises(RecipeError, match="no such file"):
        start_run(load_recipe("unet", [*settings, "model.weights=none.h5"]), records, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_run_that_cannot_begin_leaves_its_folder_free(records, tmp_path):
    (tmp_path / "weights.h5").write_text("no weights")
    small = ["data.image_size=[32,32]", "training.epochs=1", "training.images=4", "training.batch_size=4"]
    widths = ["model.widths=[2,2,2,2,2]", "model.decoder_widths=[]"]
    recipe = load_recipe("fcn_8s", [*small, *widths, f"model.weights={tmp_path / 'weights.h5'}"])
    with pytest.raises(RecipeError, match="weights"):
        train(start_run(recipe, records, tmp_path / "run"), records)
    assert not (tmp_path / "run").exists()
    train(start_run(load_recipe("fcn_8s", [*small, *widths]), records, tmp_path / "run"), records)
    assert Run(tmp_path / "run").state["status"] == "finished"
