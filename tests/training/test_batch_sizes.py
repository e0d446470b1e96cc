"""Images a step and the learning rate that goes with them, by hand."""

import pytest

from ustoolkit.errors import RecipeError
from ustoolkit.recipe.training import TrainingSettings
from ustoolkit.training.batch_sizes import batch_sizes


def settings(**changes):
    return TrainingSettings(**{"batch_size": 8, "learning_rate": 2e-3, **changes})


def test_a_batch_is_over_all_devices_together():
    found = batch_sizes(settings(), 4, 100)
    assert (found.images, found.learning_rate) == (8, 2e-3)
    assert found.lines == ("8 images a step: 4 devices × 2",)


def test_one_device_has_nothing_to_say():
    assert batch_sizes(settings(), 1, 100).lines == ()


def test_devices_add_to_the_batch_where_each_has_its_own():
    found = batch_sizes(settings(replica_batch_size=8), 4, 100, workers=2)
    assert (found.images, found.learning_rate) == (32, 2e-3)
    assert found.lines == ("32 images a step: 4 devices on 2 workers × 8",)


@pytest.mark.parametrize(
    ("scaling", "rate", "shown"), [("linear", 8e-3, "× 4 = 0.008"), ("root", 4e-3, "× √4 = 0.004")]
)
def test_the_rate_grows_with_the_batch_where_asked(scaling, rate, shown):
    found = batch_sizes(settings(replica_batch_size=8, rate_scaling=scaling), 4, 100)
    assert found.learning_rate == pytest.approx(rate)
    assert shown in found.lines[-1] and "32 images a step are 4 × training.batch_size" in found.lines[-1]


@pytest.mark.parametrize("scaling", ["off", "linear", "root"])
def test_the_rate_of_the_recipes_own_batch_stays(scaling):
    assert batch_sizes(settings(rate_scaling=scaling), 4, 100).learning_rate == 2e-3


def test_fewer_images_than_a_batch_are_the_batch_in_one_process():
    assert batch_sizes(settings(), 1, 5).images == 5
    with pytest.raises(RecipeError, match="more than the 5 images"):
        batch_sizes(settings(), 2, 5, workers=2)


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(RecipeError, match="8 images cannot be shared by 9 devices"):
        batch_sizes(settings(), 9, 100)
    with pytest.raises(RecipeError, match="8 images cannot be shared by 3 × 4 parts"):
        batch_sizes(settings(branches=2, accumulation=2), 3, 100)
    with pytest.raises(RecipeError, match=r"multiple of the 3 devices of 3 workers, found 8\. Set it to 9"):
        batch_sizes(settings(), 3, 100, workers=3)


def test_devices_of_one_process_may_have_unequal_shares():
    assert batch_sizes(settings(), 3, 100).lines == ("8 images a step: 3 devices × 2 or 3",)
