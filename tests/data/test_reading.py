"""Readers: even, each with files of its own, and batches that do not depend on where they run."""

import itertools
import socket
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ustoolkit.data.reading import Readers, joined, read_images, through_service
from ustoolkit.data.records import Records, write_records
from ustoolkit.errors import RecipeError, RecordsError
from ustoolkit.recipe import DataSetSettings, load_recipe
from ustoolkit.recipe.settings import DataSettings

SETTINGS = DataSettings(image_size=(16, 16), channels=1)


@pytest.fixture(scope="module")
def in_files(tmp_path_factory, phantom_folder):
    """The phantoms in eight files of 4 at most."""
    from ustoolkit.data.readers import open_data_set

    settings = DataSetSettings()
    out = tmp_path_factory.mktemp("files") / "set"
    return write_records(open_data_set(phantom_folder, settings), out, settings, workers=1, images_a_shard=4)


@pytest.fixture(scope="module")
def names(in_files):
    return [row.source_id for row in in_files.index]


def read(records, source_ids):
    return [name.decode() for _, _, name in read_images(records, source_ids, SETTINGS).as_numpy_iterator()]


def test_a_part_of_the_files_is_read_in_their_order(in_files, names):
    wanted = names[::3]
    assert read(in_files, wanted[::-1]) == wanted
    assert read(in_files, names) == names


@given(count=st.integers(1, 30), taken=st.integers(1, 3))
def test_readers_are_even_and_divide_all_images(in_files, names, count, taken):
    wanted = names[::taken]
    if len(wanted) < count:
        with pytest.raises(RecordsError, match=f"each of {count} readers"):
            Readers(count).divide(in_files, wanted)
        return
    parts = Readers(count).divide(in_files, wanted)
    assert [name for part in parts for name in part] == wanted
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_reader_has_files_of_its_own(in_files, names):
    shard_of = {row.source_id: row.shard for row in in_files.index}
    shards = [{shard_of[name] for name in part} for part in Readers(4).divide(in_files, names)]
    for one, other in itertools.pairwise(shards):
        assert len(one & other) <= 1  # only the file in which a stretch ends
    assert not shards[0] & shards[2] and not shards[1] & shards[3]


def test_every_process_finds_the_same_division(in_files, names):
    one = Readers(4).divide(in_files, names)
    shuffled = list(np.random.default_rng(0).permutation(names))
    assert Readers(4, 2, 1).divide(in_files, shuffled) == one
    assert [list(Readers(4, 2, worker).own) for worker in range(2)] == [[0, 1], [2, 3]]


def test_one_process_and_two_make_the_same_batches(in_files, names):
    """One process with two readers, and two processes with a reader each, whose parts are put together."""

    def batches(readers):
        parts, each = readers.divide(in_files, names), readers.part_of_batch(4)
        own = [read_images(in_files, parts[number], SETTINGS).shuffle(30, seed=number) for number in readers.own]
        whole = joined([dataset.batch(each, drop_remainder=True) for dataset in own])
        return list(whole.take(readers.steps(len(names), 4)).as_numpy_iterator())

    together = batches(Readers(2))
    apart = [batches(Readers(2, 2, worker)) for worker in range(2)]
    assert len(together) == len(apart[0]) == len(apart[1]) == 7
    for whole, *parts in zip(together, *apart, strict=True):
        for expected, *pieces in zip(whole, *parts, strict=True):
            np.testing.assert_array_equal(expected, np.concatenate(pieces))
    seen = [name for _, _, ids in together for name in ids]
    assert len(seen) == len(set(seen)) == 28


def test_steps_are_those_of_the_reader_with_the_fewest_images():
    assert Readers(2).steps(31, 4) == 7  # 15 and 16 images, parts of 2
    assert Readers(3).steps(31, 3) == 10
    assert Readers(1).steps(31, 4) == 7


def test_the_setting_says_how_many_readers_there_are():
    assert Readers.of(DataSettings()) == Readers(1, 1, 0)
    assert Readers.of(DataSettings(), 3, 2) == Readers(3, 3, 2)
    assert Readers.of(DataSettings(readers=6), 3, 1).own == range(2, 4)


def test_readers_that_cannot_be_shared_are_refused():
    with pytest.raises(RecipeError, match=r"data.readers: expected a multiple of the 2 workers, found 3. Set it to 4"):
        Readers(3, 2, 0)
    with pytest.raises(RecipeError, match=r"training.batch_size: expected a multiple of the 3 readers"):
        Readers(3).part_of_batch(8)


# --- a tf.data service ---


@pytest.fixture(scope="module")
def service():
    """A dispatcher with two workers, in this process."""
    experimental = tf.data.experimental.service
    dispatcher = experimental.DispatchServer(experimental.DispatcherConfig(port=0))
    address = dispatcher.target.partition("://")[2]
    workers = [experimental.WorkerServer(experimental.WorkerConfig(dispatcher_address=address)) for _ in range(2)]
    yield dispatcher.target
    del workers


def test_a_service_gives_each_image_once(in_files, names, service):
    recipe = load_recipe("demo", [f"data.service={service}", "augmentation.enabled=false"])
    expected = {name: (image, mask) for image, mask, name in read_images(in_files, names, SETTINGS).as_numpy_iterator()}
    dataset = through_service(read_images(in_files, names[::2], SETTINGS), recipe)
    for _ in range(2):
        found = list(dataset.as_numpy_iterator())
        assert sorted(name.decode() for _, _, name in found) == sorted(names[::2])
        for image, mask, name in found:
            np.testing.assert_array_equal(image, expected[name][0])
            np.testing.assert_array_equal(mask, expected[name][1])


def test_without_a_service_nothing_changes(in_files, names):
    dataset = read_images(in_files, names, SETTINGS)
    assert through_service(dataset, load_recipe("demo")) is dataset


def test_a_service_that_cannot_augment_is_refused(in_files, names):
    dataset = read_images(in_files, names, SETTINGS)
    with pytest.raises(RecipeError, match=r"data.service: expected augmentation.engine = 'tensorflow'"):
        through_service(dataset, load_recipe("demo", ["data.service=grpc://host:5000"]))


@pytest.mark.parametrize(
    "address",
    ["host:5000", "http://host:5000", "grpc://host", "grpc://host:x", "grpc://host:99999", "grpc://:5000", "x"],
)
def test_an_address_that_is_none_is_refused(in_files, names, address):
    recipe = load_recipe("demo", [f"data.service='{address}'", "augmentation.enabled=false"])
    with pytest.raises(RecipeError, match=rf"expected an address as grpc://host:port, found '{address}'"):
        through_service(read_images(in_files, names, SETTINGS), recipe)


def test_a_service_that_does_not_answer_is_refused(in_files, names):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"grpc://127.0.0.1:{server.getsockname()[1]}"  # free again when the block ends
    recipe = load_recipe("demo", [f"data.service={address}", "augmentation.enabled=false"])
    with pytest.raises(RecipeError, match=f"nothing answers at '{address}' .*Start a dispatcher"):
        through_service(read_images(in_files, names, SETTINGS), recipe)


def test_records_are_found_from_another_folder(in_files, names, monkeypatch):
    """The helpers of a service do not work in the folder of the one that asks them."""
    monkeypatch.chdir(in_files.folder.parent)
    relative = read_images(Records(Path(in_files.folder.name)), names, SETTINGS)
    monkeypatch.chdir("/")
    assert len(list(relative)) == len(names)
