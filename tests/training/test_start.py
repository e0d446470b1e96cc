"""The beginning of a run: which images of a split it uses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import TINY
from ustoolkit.data.split import read_splits
from ustoolkit.recipe import load_recipe
from ustoolkit.recipe.settings import TrainingSettings
from ustoolkit.training.start import draw_images, resume_run, start_run

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
