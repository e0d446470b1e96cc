"""Batches: right pixels with their masks, the same whenever asked for, and geometry that can be undone."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ustoolkit.data import image_cache
from ustoolkit.data.augment import Augmenter
from ustoolkit.data.image_cache import ImageFile
from ustoolkit.data.pipeline import Batches
from ustoolkit.data.python_call import told_by
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.reading import read_images
from ustoolkit.data.records import write_records
from ustoolkit.data.resize import mask_to_network, to_channels, to_network, to_original
from ustoolkit.data.sample import Sample
from ustoolkit.data.split import read_splits
from ustoolkit.errors import OutputError, RecordsError
from ustoolkit.recipe import DataSetSettings, load_recipe
from ustoolkit.recipe.augmentation import AugmentationSettings
from ustoolkit.recipe.data_set import IGNORE
from ustoolkit.recipe.settings import DataSettings

ONE_CLASS = DataSetSettings()
TWO_CLASSES = DataSetSettings(classes=("background", "gland", "lesion"))
PLAIN = ("augmentation.enabled=false",)


@dataclasses.dataclass(frozen=True)
class Held:
    """Loads what it holds."""

    sample: Sample

    def __call__(self):
        return self.sample


def recipe_of(*overrides):
    common = ("data.image_size=[32,32]", "data.channels=1", "model.widths=[4,8,8]", "training.batch_size=4")
    return load_recipe("demo", [*common, *overrides])


def made(folder, samples, settings=ONE_CLASS):
    return write_records([Entry(item.source_id, Held(item)) for item in samples], folder / "set", settings, workers=1)


def square(name, size=64, shift=0):
    """A bright square whose mask is the square."""
    mask = np.zeros((size, size), np.uint8)
    mask[20 + shift : 44 + shift, 16:44] = 1
    return Sample(name, (mask * 200)[..., np.newaxis], mask, "benign", name)


def all_of(dataset):
    images, masks = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(masks)


def equal(one, other):
    return all(np.array_equal(first, second) for first, second in zip(one, other, strict=True))


def overlap(one, other):
    return np.count_nonzero(one & other) / max(1, np.count_nonzero(one | other))


@pytest.fixture(scope="module")
def splits(records):
    return read_splits(records.folder / "splits.json", records)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    return made(tmp_path_factory.mktemp("squares"), [square(f"{number:02}", shift=number % 5) for number in range(16)])


# --- what comes out ---


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_batches_are_raw_pixels_and_class_indices(records, splits, channels, training):
    batches = Batches(records, splits["train"], recipe_of(f"data.channels={channels}"), training)
    images, masks = all_of(batches.epoch(0))
    assert (images.dtype, masks.dtype) == (np.float32, np.uint8)
    assert images.shape[1:] == (32, 32, channels)
    assert masks.shape == images.shape[:3]
    assert images.min() >= 0
    assert 100 < images.max() <= 255
    assert set(np.unique(masks)) == {0, 1}


def test_an_image_at_the_networks_size_is_passed_on_unchanged(tmp_path):
    sample = square("a", size=64)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 1), np.uint8)
    records = made(tmp_path, [dataclasses.replace(sample, image=noise)])
    images, masks = all_of(Batches(records, ["a"], recipe_of("data.image_size=[64,64]"), training=False).epoch(0))
    np.testing.assert_array_equal(images[0], noise)
    np.testing.assert_array_equal(masks[0], sample.mask)


@pytest.mark.parametrize("keep_aspect", ["true", "false"])
def test_masks_of_several_classes_stay_class_indices(tmp_path, keep_aspect):
    samples = []
    for number in range(4):
        mask = np.zeros((50, 70), np.uint8)
        mask[10:40, 10:50] = 1
        mask[20:30, 20 + number : 40] = 2
        samples.append(Sample(str(number), (mask * 100)[..., np.newaxis], mask, "", str(number)))
    records = made(tmp_path, samples, TWO_CLASSES)
    recipe = recipe_of(f"data.keep_aspect={keep_aspect}")
    batches = Batches(records, [item.source_id for item in samples], recipe, training=True)
    for number in range(3):
        found = set(np.unique(all_of(batches.epoch(number))[1]))
        assert found == ({0, 1, 2, IGNORE} if keep_aspect == "true" else {0, 1, 2})


def test_training_leaves_out_a_batch_that_is_not_full_and_validation_does_not(squares):
    names = [row.source_id for row in squares.index][:10]
    training, validation = (Batches(squares, names, recipe_of(), training=flag) for flag in (True, False))
    assert (training.steps, validation.steps) == (2, 3)
    assert [len(images) for images, _ in training.epoch(0)] == [4, 4]
    assert [len(images) for images, _ in validation.epoch(0)] == [4, 4, 2]


def test_fewer_images_than_a_batch_still_make_one(squares):
    batches = Batches(squares, ["00", "01", "02"], recipe_of(), training=True)
    assert batches.steps == 1
    assert [len(images) for images, _ in batches.epoch(0)] == [3]


def test_only_the_images_asked_for_come_out_once_each(squares):
    wanted = ["03", "07", "08", "12"]
    images, _ = all_of(Batches(squares, wanted, recipe_of(*PLAIN), training=False).epoch(0))
    expected = [sample.image for sample in squares.read() if sample.source_id in wanted]
    shown = to_network(tf.constant(np.stack(expected)), recipe_of().data).numpy().round()
    np.testing.assert_array_equal(images, shown)


def test_unlabelled_images_in_the_same_shard_do_no_harm(tmp_path):
    samples = [square("a"), dataclasses.replace(square("b"), mask=None), square("c")]
    batches = Batches(made(tmp_path, samples), ["a", "c"], recipe_of(), training=False)
    assert all_of(batches.epoch(0))[0].shape[0] == 2


def test_a_part_without_images_is_refused(squares):
    with pytest.raises(RecordsError, match="has no images"):
        Batches(squares, [], recipe_of(), training=True)


def test_an_image_without_a_mask_is_refused_by_name(tmp_path):
    records = made(tmp_path, [square("a"), dataclasses.replace(square("b"), mask=None)])
    with pytest.raises(RecordsError, match=r"1 images for validation have no mask \(b"):
        Batches(records, ["a", "b"], recipe_of(), training=False)


# --- the same whenever asked for ---


def test_an_epoch_is_the_same_whenever_it_is_asked_for(records, splits):
    batches = Batches(records, splits["train"], recipe_of(), training=True)
    first = all_of(batches.epoch(3))
    all_of(batches.epoch(4))
    assert equal(all_of(batches.epoch(3)), first)
    dataset = batches.epoch(3)
    assert equal(all_of(dataset), first)
    assert equal(all_of(dataset), first)


def test_a_second_object_gives_the_same_epochs(records, splits):
    one, other = (Batches(records, splits["train"], recipe_of(), training=True) for _ in range(2))
    all_of(one.epoch(0))
    assert equal(all_of(one.epoch(1)), all_of(other.epoch(1)))


def test_the_order_in_which_images_are_named_does_not_matter(records, splits):
    one = Batches(records, splits["train"], recipe_of(), training=True)
    other = Batches(records, splits["train"][::-1], recipe_of(), training=True)
    assert equal(all_of(one.epoch(0)), all_of(other.epoch(0)))


@pytest.mark.parametrize("training", [True, False])
def test_cached_equals_uncached(records, splits, training):
    cached, uncached = (
        Batches(records, splits["train"], recipe_of(f"data.cache={cache}"), training) for cache in ("memory", "off")
    )
    for number in (0, 1, 0):
        assert equal(all_of(cached.epoch(number)), all_of(uncached.epoch(number)))


def test_epochs_differ_in_order_and_hold_the_same_images(squares):
    names = [row.source_id for row in squares.index]
    batches = Batches(squares, names, recipe_of(*PLAIN), training=True)
    orders = [[mask.tobytes() for mask in all_of(batches.epoch(number))[1]] for number in range(3)]
    assert len(set(map(tuple, orders))) == 3
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])


def test_epochs_differ_in_augmentation(tmp_path):
    batches = Batches(made(tmp_path, [square("a")]), ["a"], recipe_of(), training=True)
    shown = [all_of(batches.epoch(number))[0].tobytes() for number in range(4)]
    assert len(set(shown)) == 4


def test_another_seed_gives_another_order_and_augmentation(records, splits):
    for overrides in (PLAIN, ()):
        one, other = (
            Batches(records, splits["train"], recipe_of(f"training.seed={seed}", *overrides), training=True)
            for seed in (1, 2)
        )
        assert not equal(all_of(one.epoch(0)), all_of(other.epoch(0)))


def test_validation_is_neither_shuffled_nor_augmented(records, splits):
    names = splits["train"]
    batches = Batches(records, names, recipe_of(), training=False)
    images, masks = all_of(batches.epoch(0))
    assert equal(all_of(batches.epoch(5)), (images, masks))
    settings = recipe_of().data
    for image, mask, sample in zip(images, masks, records.read(names), strict=True):
        np.testing.assert_array_equal(image, to_network(sample.image[np.newaxis], settings)[0].numpy().round())
        np.testing.assert_array_equal(mask, mask_to_network(tf.constant(sample.mask), settings))


def test_a_cache_on_disk_gives_the_images_of_the_one_in_memory_in_orders_of_its_own(records, splits, tmp_path):
    def ordered(batches, number):
        images, masks = all_of(batches.epoch(number))
        return sorted(image.tobytes() + mask.tobytes() for image, mask in zip(images, masks, strict=True))

    names = splits["train"][:12]
    memory, disk, again = (
        Batches(records, names, recipe_of(f"data.cache={cache}"), True, tmp_path)
        for cache in ("memory", "disk", "disk")
    )
    first, second = disk.epoch(0), disk.epoch(1)
    assert ordered(disk, 1) == ordered(memory, 1)
    assert equal(all_of(first), all_of(again.epoch(0)))
    assert not equal(all_of(first), all_of(second))
    assert [mask.tobytes() for mask in disk.masks().as_numpy_iterator()] == [
        mask.tobytes() for mask in memory.masks().as_numpy_iterator()
    ]
    assert list(tmp_path.iterdir()) == []  # the file has no name, so none can stay
    validation = [Batches(records, names, recipe_of(f"data.cache={cache}"), False) for cache in ("memory", "disk")]
    assert equal(*(all_of(batches.epoch(0)) for batches in validation))


def test_a_cache_that_the_disk_cannot_hold_is_an_error(squares):
    names = [row.source_id for row in squares.index]
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no disk that is always full")
    images = read_images(squares, names, recipe_of().data)
    file = ImageFile(recipe_of().data, None)
    file._file = full.open("wb", buffering=0)
    with file._file, pytest.raises(OutputError, match=r"cannot be written .*set data\.cache to 'off'"):
        file.fill(images)


def test_a_cache_that_cannot_be_opened_or_read_back_is_an_error(records, splits, tmp_path):
    recipe = recipe_of("data.cache=disk", "augmentation.enabled=false")
    with pytest.raises(OutputError, match=r"nowhere: the cache .* cannot be written \(No such file"):
        Batches(records, splits["train"], recipe, training=True, folder=tmp_path / "nowhere").epoch(0)
    batches = Batches(records, splits["train"], recipe, training=True, folder=tmp_path)
    epoch = batches.epoch(0)
    os.truncate(batches._cache._file._file.fileno(), 100)
    with pytest.raises(OutputError, match=r"cannot be read back \(.* of 2,048 bytes"), told_by(batches):
        list(epoch)


def test_several_parts_of_a_process_share_the_memory_for_images_that_wait():
    settings = DataSettings(image_size=(512, 512), channels=3)
    alone, shared = (image_cache.window_images(settings, sharing) for sharing in (1, 4))
    assert alone == 4 * shared


def test_without_a_cache_an_epoch_mixes_all_files_through_a_small_window(tmp_path, monkeypatch):
    samples = [square(f"{number:03}", shift=number % 5) for number in range(96)]
    entries = [Entry(item.source_id, Held(item)) for item in samples]
    many = write_records(entries, tmp_path / "set", ONE_CLASS, workers=1, images_a_shard=4)
    monkeypatch.setattr(image_cache, "WINDOW_BYTES", 4 * 32 * 32 * 2)
    names = [row.source_id for row in many.index]
    batches = Batches(many, names, recipe_of(*PLAIN, "data.cache=off"), training=True)

    def order(number):
        dataset = batches._cache.batches(4, number, True)
        return [name.decode() for _, _, batch in dataset.as_numpy_iterator() for name in batch]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == names
    places = np.array([names.index(name) for name in order(1)])
    # Of a window of four alone, the first eight would be of the first three files.
    assert len(set(places[:8] // 4)) > 4
    assert equal(all_of(batches.epoch(0)), all_of(batches.epoch(0)))


# --- augmentation ---


def test_batches_are_the_same_bit_for_bit_in_any_number_of_processes(records, splits):
    epochs = []
    for workers in (1, 2):
        batches = Batches(records, splits["train"], recipe_of(f"augmentation.workers={workers}"), training=True)
        epochs.append([all_of(batches.epoch(number)) for number in (0, 3)])
    for one, other in zip(*epochs, strict=True):
        assert equal(one, other)


def test_the_engine_of_tensorflow_changes_images_and_keeps_to_its_key(records, splits):
    recipe = recipe_of("augmentation.engine=tensorflow")
    one, other = (Batches(records, splits["train"], recipe, training=True) for _ in range(2))
    assert equal(all_of(one.epoch(1)), all_of(other.epoch(1)))
    images, masks = all_of(one.epoch(2))
    assert (images.dtype, masks.dtype) == (np.float32, np.uint8)
    plain, _ = all_of(Batches(records, splits["train"], recipe_of(*PLAIN), training=True).epoch(2))
    assert not np.array_equal(images, plain)  # the order is the same
    assert set(np.unique(masks)) == {0, 1}


def test_image_and_mask_move_together(squares):
    names = [row.source_id for row in squares.index]
    recipe = recipe_of("data.image_size=[64,64]", "augmentation.vertical_flip=0.5", "augmentation.rotation_degrees=45")
    batches = Batches(squares, names, recipe, training=True)
    moved = []
    for number in range(3):
        images, masks = all_of(batches.epoch(number))
        for image, mask in zip(images, masks, strict=True):
            assert mask.any()
            assert overlap(image[..., 0] > 110, mask > 0) > 0.9
            moved.append(overlap(square("x", shift=2).mask > 0, mask > 0))
    assert min(moved) < 0.6  # else nothing was tried


def test_padding_moves_with_the_image_and_stays_ignored(tmp_path):
    mask = np.zeros((40, 64), np.uint8)
    mask[10:30, 10:50] = 1
    samples = [Sample(str(number), np.full((40, 64, 1), 200, np.uint8), mask, "", str(number)) for number in range(8)]
    recipe = recipe_of("data.keep_aspect=true", "augmentation.channel_shift=0", "augmentation.contrast=0")
    names = [item.source_id for item in samples]
    unchanged = mask_to_network(tf.constant(mask), recipe.data).numpy()
    images, masks = all_of(Batches(made(tmp_path, samples), names, recipe, training=True).epoch(0))
    for image, moved in zip(images[..., 0], masks, strict=True):
        assert set(np.unique(moved)) == {0, 1, IGNORE}
        assert not np.array_equal(moved, unchanged)
        assert np.mean(image[moved == IGNORE] < 100) > 0.95  # black below the image, apart from its blurred edge
        assert np.mean(moved[image > 150] != IGNORE) > 0.98


def test_what_is_switched_off_changes_nothing():
    off = AugmentationSettings(
        rotation_degrees=0, shift=0, shear_degrees=0, zoom=0, horizontal_flip=0, channel_shift=0, contrast=0
    )
    sample = square("a")
    image, mask = Augmenter(off, seed=0)(sample.image, sample.mask, "a", 0)
    np.testing.assert_array_equal(image, sample.image)
    np.testing.assert_array_equal(mask, sample.mask)


@pytest.mark.parametrize(("setting", "axis"), [("horizontal_flip", 1), ("vertical_flip", 0)])
def test_a_certain_flip_turns_image_and_mask_over(setting, axis):
    nothing = {
        "rotation_degrees": 0,
        "shift": 0,
        "shear_degrees": 0,
        "zoom": 0,
        "channel_shift": 0,
        "contrast": 0,
    }
    only = AugmentationSettings(**{**nothing, "horizontal_flip": 0, "vertical_flip": 0, setting: 1})
    random = np.random.default_rng(0)
    image, mask = random.integers(0, 255, (8, 12, 3), np.uint8), random.integers(0, 3, (8, 12), np.uint8)
    flipped, turned = Augmenter(only, seed=0)(image, mask, "a", 0)
    np.testing.assert_array_equal(flipped, np.flip(image, axis))
    np.testing.assert_array_equal(turned, np.flip(mask, axis))


def test_probability_is_the_share_of_images_moved():
    settings = AugmentationSettings(probability=0.3, horizontal_flip=0, channel_shift=0, contrast=0)
    augmenter, sample = Augmenter(settings, seed=0), square("a")
    moved = [not np.array_equal(augmenter(sample.image, sample.mask, str(k), 0)[0], sample.image) for k in range(300)]
    assert np.mean(moved) == pytest.approx(0.3, abs=0.1)


def test_augmentation_leaves_its_input_and_global_randomness_alone():
    sample = square("a")
    image, mask = sample.image.copy(), sample.mask.copy()
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    Augmenter(AugmentationSettings(), seed=0)(image, mask, "a", 0)
    assert np.random.random() == expected
    np.testing.assert_array_equal(image, sample.image)
    np.testing.assert_array_equal(mask, sample.mask)


def test_augmentation_is_the_same_in_many_threads_as_in_one():
    settings, sample = AugmentationSettings(), square("a", size=96)
    names = [str(number) for number in range(150)]
    alone = Augmenter(settings, seed=0)
    expected = [alone(sample.image, sample.mask, name, 0) for name in names]
    shared = Augmenter(settings, seed=0)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: shared(sample.image, sample.mask, name, 0), names))
    assert all(equal(one, other) for one, other in zip(found, expected, strict=True))


# --- geometry ---

ASPECTS = [(40, 80), (80, 40), (33, 57), (64, 64), (200, 31)]


def eagerly(function, value):
    return function(tf.constant(value)).numpy()


def inside_a_dataset(function, value):
    dataset = tf.data.Dataset.from_generator(
        lambda: [value], output_signature=tf.TensorSpec([None] * value.ndim, value.dtype)
    )
    return next(iter(dataset.map(function))).numpy()


@pytest.mark.parametrize("run", [eagerly, inside_a_dataset])
@pytest.mark.parametrize("size", ASPECTS)
def test_kept_aspect_pads_below_and_to_the_right(size, run):
    settings = DataSettings(image_size=(32, 64), channels=1, keep_aspect=True)
    scale = min(32 / size[0], 64 / size[1])
    height, width = (max(1, round(scale * side)) for side in size)
    assert height == 32 or width == 64
    image = run(lambda value: to_network(value, settings), np.full((1, *size, 1), 77, np.uint8))[0, ..., 0]
    mask = run(lambda value: mask_to_network(value, settings), np.ones(size, np.uint8))
    assert mask.dtype == np.uint8
    for array, inside, outside in ((image, 77, 0), (mask, 1, IGNORE)):
        assert array.shape == (32, 64)
        np.testing.assert_allclose(array[:height, :width], inside, atol=1e-3)
        assert (array[height:] == outside).all()
        assert (array[:, width:] == outside).all()


@pytest.mark.parametrize("size", ASPECTS)
def test_without_kept_aspect_the_image_fills_the_input(size):
    settings = DataSettings(image_size=(32, 64), channels=1)
    np.testing.assert_allclose(
        eagerly(lambda v: to_network(v, settings), np.full((1, *size, 1), 77, np.uint8)), 77, atol=1e-3
    )
    assert eagerly(lambda v: mask_to_network(v, settings), np.ones(size, np.uint8)).all()


def centre_of(array):
    rows, columns = np.indices(array.shape)
    return np.array([(rows * array).sum(), (columns * array).sum()]) / array.sum()


@pytest.mark.parametrize("keep_aspect", [True, False])
@pytest.mark.parametrize("size", [(120, 200), (200, 120), (90, 90), (300, 260)])
def test_a_landmark_comes_back_to_its_place(size, keep_aspect):
    settings = DataSettings(image_size=(64, 96), channels=1, keep_aspect=keep_aspect)
    rows, columns = np.indices(size)
    for place in ((0.3, 0.7), (0.5, 0.25), (0.75, 0.6)):
        landmark = np.array(place) * size
        blob = 250 * np.exp(-((rows - landmark[0]) ** 2 + (columns - landmark[1]) ** 2) / (2 * 6.0**2))
        network = to_network(tf.constant(blob.astype(np.uint8)[np.newaxis, ..., np.newaxis]), settings)
        back = to_original(network, tf.constant(size), settings).numpy()[0, ..., 0]
        assert back.shape == size
        np.testing.assert_allclose(centre_of(back), landmark, atol=0.6)


@pytest.mark.parametrize("keep_aspect", [True, False])
@pytest.mark.parametrize("size", [(120, 200), (200, 120), (91, 90)])
def test_a_mask_lies_where_its_image_lies(size, keep_aspect):
    settings = DataSettings(image_size=(64, 96), channels=1, keep_aspect=keep_aspect)
    mask = np.zeros(size, np.uint8)
    mask[size[0] // 4 : size[0] // 2, size[1] // 3 : size[1] // 2] = 1
    image = to_network(tf.constant((mask * 255)[np.newaxis, ..., np.newaxis]), settings).numpy()[0, ..., 0]
    shrunk = mask_to_network(tf.constant(mask), settings).numpy() % IGNORE
    np.testing.assert_allclose(centre_of(image), centre_of(shrunk), atol=0.6)
    assert overlap(image > 127, shrunk > 0) > 0.85
    back = to_original(tf.constant(shrunk[np.newaxis, ..., np.newaxis], tf.float32), tf.constant(size), settings)
    assert overlap(back.numpy()[0, ..., 0] > 0.5, mask > 0) > 0.85


def test_shrinking_averages_instead_of_picking_pixels():
    lines = np.zeros((1, 128, 128, 1), np.uint8)
    lines[:, :, ::4] = 200
    shown = to_network(tf.constant(lines), DataSettings(image_size=(32, 32), channels=1)).numpy()
    np.testing.assert_allclose(shown[:, 2:-2, 2:-2], 50, atol=5)


# --- channels ---


def call_statically(image, channels):
    return to_channels(tf.constant(image), channels).numpy()


def call_in_a_graph(image, channels):
    return tf.function(lambda value: to_channels(value, channels))(tf.constant(image)).numpy()


def call_without_knowing(image, channels):
    signature = [tf.TensorSpec([None] * image.ndim, image.dtype)]
    return tf.function(lambda value: to_channels(value, channels), input_signature=signature)(image).numpy()


@pytest.mark.parametrize("call", [call_statically, call_in_a_graph, call_without_knowing])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5)])
class TestChannels:
    def test_grey_becomes_three_equal_channels(self, call, dtype, shape):
        grey = np.random.default_rng(0).integers(0, 255, (*shape, 1)).astype(dtype)
        found = call(grey, 3)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.repeat(grey, 3, axis=-1))

    def test_colours_become_grey_by_their_brightness(self, call, dtype, shape):
        colour = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(dtype)
        found = call(colour, 1)
        assert found.dtype == dtype
        assert found.shape == (*shape, 1)
        np.testing.assert_allclose(found[..., 0], colour @ [0.299, 0.587, 0.114], atol=0.51)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_what_fits_is_unchanged(self, call, dtype, shape, channels):
        image = np.random.default_rng(0).integers(0, 255, (*shape, channels)).astype(dtype)
        np.testing.assert_array_equal(call(image, channels), image)


def test_there_and_back_a_grey_image_is_the_same():
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(to_channels(to_channels(tf.constant(grey), 3), 1).numpy(), grey)


@pytest.mark.parametrize("channels", [1, 3])
def test_records_may_mix_grey_and_colour(tmp_path, channels):
    grey = square("grey")
    colour = dataclasses.replace(grey, source_id="colour", image=np.repeat(grey.image, 3, axis=2))
    records = made(tmp_path, [colour, grey])
    images, _ = all_of(
        Batches(records, ["colour", "grey"], recipe_of(f"data.channels={channels}"), training=False).epoch(0)
    )
    np.testing.assert_allclose(images[0], images[1], atol=1)
