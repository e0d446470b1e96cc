"""Batches of several readers and of a service: the same images wherever they are read, each once."""

import numpy as np
import pytest
import tensorflow as tf

from ustoolkit.data.pipeline import Batches
from ustoolkit.data.reading import Readers
from ustoolkit.data.served_batches import ServedBatches
from ustoolkit.data.shared_batches import SharedBatches
from ustoolkit.errors import RecipeError, RecordsError
from ustoolkit.recipe import load_recipe

COMMON = ("data.image_size=[16,16]", "data.channels=1", "training.batch_size=6", "augmentation.workers=1")


@pytest.fixture(scope="module")
def names(records):
    return [row.source_id for row in records.index]


def recipe_of(*changes):
    return load_recipe("demo", [*COMMON, *changes])


def of_epoch(batches, number):
    return list(batches.epoch(number).as_numpy_iterator())


def test_one_reader_gives_the_batches_of_one_pipeline(records, names):
    recipe = recipe_of()
    shared = SharedBatches(records, names, recipe, True, Readers())
    plain = Batches(records, names, recipe, training=True)
    assert shared.steps == plain.steps == 5
    for found, expected in zip(of_epoch(shared, 3), of_epoch(plain, 3), strict=True):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("workers", "augmented"), [(2, "true"), (3, "false")])
def test_processes_have_parts_of_the_batches_of_one(records, names, workers, augmented):
    recipe = recipe_of(f"augmentation.enabled={augmented}")
    whole = SharedBatches(records, names, recipe, True, Readers(workers))
    parts = [SharedBatches(records, names, recipe, True, Readers(workers, workers, each)) for each in range(workers)]
    assert {each.steps for each in (whole, *parts)} == {5}
    for number in (0, 1):
        together, *apart = (of_epoch(each, number) for each in (whole, *parts))
        assert len(together) == 5
        for expected, *pieces in zip(together, *apart, strict=True):
            for one, *others in zip(expected, *pieces, strict=True):
                np.testing.assert_array_equal(one, np.concatenate(others))


def test_validation_is_in_the_order_of_the_files_whoever_reads(records, names):
    recipe = recipe_of()
    plain = Batches(records, names, recipe, training=False)
    expected = np.concatenate([images for images, _ in of_epoch(plain, 0)])
    parts = [SharedBatches(records, names, recipe, False, Readers(4, 4, each)) for each in range(4)]
    found = [np.concatenate([images for images, _ in of_epoch(each, 0)]) for each in parts]
    assert [len(each) for each in found] == [7, 8, 7, 8]
    np.testing.assert_array_equal(np.concatenate(found), expected)
    assert {each.steps for each in parts} == {4}


def test_every_process_sees_the_masks_of_all(records, names):
    recipe = recipe_of()
    expected = sum(mask.sum() for mask in Batches(records, names, recipe, True).masks().as_numpy_iterator())
    for worker in range(2):
        shared = SharedBatches(records, names, recipe, True, Readers(2, 2, worker))
        assert sum(mask.sum() for mask in shared.masks().as_numpy_iterator()) == expected


def test_what_cannot_be_shared_is_refused(records, names):
    with pytest.raises(RecipeError, match=r"multiple of the 4 readers"):
        SharedBatches(records, names, recipe_of(), True, Readers(4))
    with pytest.raises(RecordsError, match="each of 3 readers"):
        SharedBatches(records, names[:2], recipe_of(), False, Readers(3, 3, 0))


# --- a service ---


@pytest.fixture(scope="module")
def service():
    """A dispatcher with two workers, in this process."""
    experimental = tf.data.experimental.service
    dispatcher = experimental.DispatchServer(experimental.DispatcherConfig(port=0))
    address = dispatcher.target.partition("://")[2]
    workers = [experimental.WorkerServer(experimental.WorkerConfig(dispatcher_address=address)) for _ in range(2)]
    yield dispatcher.target
    del workers


def sums(batches):
    """A number for each image, sorted, so that neither order nor batches matter."""
    return sorted(float(image.sum()) for images, _ in batches for image in images)


def test_helpers_change_images_as_they_would_be_changed_here(records, names, service):
    native = ("augmentation.engine=tensorflow", "training.batch_size=5")
    served = ServedBatches(records, names, recipe_of(*native, f"data.service={service}"), Readers())
    local = Batches(records, names, recipe_of(*native), training=True)
    assert served.steps == local.steps == 6
    first, second = (of_epoch(served, number) for number in (0, 1))
    assert sums(first) == sums(of_epoch(local, 0)) and sums(second) == sums(of_epoch(local, 1))
    assert sums(first) != sums(second)
    images, masks = first[0]
    assert images.dtype == np.float32 and masks.dtype == np.uint8 and images.shape == (5, 16, 16, 1)


def test_a_service_is_not_asked_for_imgaug(records, names):
    with pytest.raises(RecipeError, match=r"expected augmentation.engine = 'tensorflow'"):
        ServedBatches(records, names, recipe_of("data.service=grpc://localhost:1"), Readers())
