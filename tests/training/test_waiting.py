"""The time that training waits for its data."""

import time

import pytest

from ustoolkit.training.waiting import WaitingTime


def slow(count, seconds):
    for number in range(count):
        time.sleep(seconds)
        yield number


def test_the_time_until_each_batch_is_there_counts():
    batches = WaitingTime(slow(3, 0.05))
    assert batches.seconds == 0
    assert list(batches) == [0, 1, 2]
    assert batches.seconds >= 0.15


def test_the_time_between_batches_does_not_count():
    started = time.perf_counter()
    batches = WaitingTime(range(3))
    for _ in batches:
        time.sleep(0.05)
    assert batches.seconds < time.perf_counter() - started - 0.15


def test_the_wait_that_ends_in_an_error_counts():
    def broken():
        time.sleep(0.05)
        raise ValueError("no data")
        yield

    batches = WaitingTime(broken())
    with pytest.raises(ValueError, match="no data"):
        next(batches)
    assert batches.seconds >= 0.05
