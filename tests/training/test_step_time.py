"""Steps are measured as they are trained; where there is no time for that they are estimated, alike each time."""

import pytest

from ustoolkit.data.split import read_splits
from ustoolkit.models import build_model
from ustoolkit.models.cost import activation_bytes
from ustoolkit.training import step_time
from ustoolkit.training.machine import Machine
from ustoolkit.training.network_size import NetworkSize
from ustoolkit.training.step_time import Costs, assumed_cost, measure_steps

MACHINE = Machine(cores=4, memory_bytes=2**34)
TINY = NetworkSize((32, 32), (4, 8, 8), 1)
USUAL, LARGE = NetworkSize((128, 128), (16, 32, 64, 128, 128), 1), NetworkSize((128, 128), (32, 64, 128, 256, 256), 1)


def test_a_measured_step_is_one_of_the_recipe(records, tiny_recipe):
    names = read_splits(records.folder / "splits.json", records)["train"]
    cost = measure_steps(tiny_recipe, records, names, 0.2)
    assert cost.measured and cost.seconds > 0 and cost.start_seconds > cost.seconds
    assert cost.activation_bytes == activation_bytes(build_model(tiny_recipe, len(records.classes)))


def test_a_network_is_measured_once_and_others_estimated_when_the_time_is_over(records, tiny_recipe, monkeypatch):
    monkeypatch.setattr(step_time, "_START_SECONDS", 0.1)  # the first one takes longer, however quick the machine
    names = read_splits(records.folder / "splits.json", records)["train"]
    costs = Costs(lambda network: tiny_recipe, records, names, MACHINE, 0.1)
    first = costs(TINY)
    assert first.measured and costs(TINY) is first
    twice = NetworkSize((32, 32), (8, 16, 16), 1)
    second = costs(twice)
    assert not second.measured and second.seconds > first.seconds
    assert second.activation_bytes == pytest.approx(2 * first.activation_bytes)


def test_without_time_nothing_is_measured(records, tiny_recipe):
    costs = Costs(lambda network: tiny_recipe, records, [], MACHINE, 1.0)
    assert not costs(USUAL).measured and costs(USUAL) == assumed_cost(USUAL, MACHINE)
    assert "estimated" in str(costs(USUAL))


@pytest.mark.parametrize("gpu_bytes", [(), (2**35,)])
def test_what_is_assumed_is_in_order(gpu_bytes):
    slow = Machine(2, 2**34, gpu_bytes)
    quick = Machine(8, 2**34, 4 * gpu_bytes, "float16" if gpu_bytes else "bfloat16")
    for machine in (slow, quick):
        assert assumed_cost(USUAL, machine).seconds < assumed_cost(LARGE, machine).seconds
    assert assumed_cost(USUAL, quick).seconds < assumed_cost(USUAL, slow).seconds
