"""Strategies and placements: one device, two, and several processes that gather, agree and wait for each other."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.training.several import environments, run_all
from ustoolkit.recipe.settings import DataSettings
from ustoolkit.training.cluster import Cluster
from ustoolkit.training.placement import Placement
from ustoolkit.training.strategy import make_strategy


@pytest.mark.parametrize("name", ["auto", "one"])
def test_one_device_is_taken_where_there_is_one(name):
    assert isinstance(make_strategy(name), tf.distribute.OneDeviceStrategy) or tf.config.list_logical_devices("GPU")


def test_one_process_is_the_one_that_writes_and_gathers_nothing():
    place = Placement.of("one")
    assert (place.workers, place.worker, place.writes, place.replicas) == (1, 0, True, 1)
    values = np.arange(4, dtype=np.float32).reshape(2, 2)
    assert place.gather(values) is values and place.agreed(1.5) == 1.5
    assert place.first_alone(lambda: "made") == "made"
    assert place.readers(DataSettings(readers=3)).count == 3
    batches = tf.data.Dataset.range(5).batch(2).map(lambda numbers: (numbers, numbers))
    assert [len(images) for images, _ in place.distribute(batches, 2)] == [2, 2, 1]


def test_a_placement_counts_the_workers_of_its_cluster():
    there = Cluster({"worker": ("192.0.2.1:9", "192.0.2.2:9")}, "worker", 0)
    place = Placement(make_strategy("one"), there)
    assert (place.workers, place.worker) == (2, 0)


@pytest.mark.slow
def test_workers_gather_agree_and_wait(tmp_path):
    printed = run_all(["-m", "tests.training.worker"], environments(worker=2), tmp_path)
    first, second = (json.loads(text.splitlines()[-1]) for text in printed)
    assert [each["worker"] for each in (first, second)] == [0, 1]
    assert [each["writes"] for each in (first, second)] == [True, False]
    for each in (first, second):
        assert each["workers"] == each["replicas"] == 2
        assert each["gathered"] == [[0, 1], [2, 3], [4, 5], [10, 11], [12, 13]]
        assert each["with_none"] == [[10, 11], [12, 13], [14, 15]]
        assert each["none_at_all"] == [0, 2]
        assert each["agreed"] == pytest.approx(86_400.0001, abs=1e-6)
        assert each["outputs"] == [0, 2, 4, 6, 8, 10, 12, 200, 202, 204]
    assert first["made"] == "made" and second["made"] is None
    assert first["failed"] == "ValueError: no room"
    assert second["failed"] == "RunError: worker 1: the first worker could not begin; its message says why."
