"""Jobs that arrive together share a call, none is lost, and none spoils another."""

import threading
import time

import numpy as np
import pytest

from ustoolkit.serving.batching import Batcher, Job
from ustoolkit.serving.refusal import Refusal


class Doubler:
    """A model that doubles numbers, notes its calls, fails on negative ones, and can be held up."""

    def __init__(self):
        self.calls = []
        self.free = threading.Event()
        self.free.set()
        self.begun = threading.Event()

    def __call__(self, signature, inputs):
        self.begun.set()
        self.free.wait(10)
        self.calls.append((signature, inputs["x"].tolist()))
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        return {"y": 2 * inputs["x"]}


def job(*values, kind=(), signature="double", pixels=1):
    return Job(signature, kind, {"x": np.array(values, float)}, len(values), pixels)


def batcher(model, batch=4, pixels=100, queue=8, workers=1, wait=0.0, queue_pixels=1000):
    return Batcher(model, batch, pixels, queue, workers, wait, queue_pixels)


def held_up(made, model):
    """Occupies the one worker, so that what comes next waits together; returns what it answers."""
    model.free.clear()
    model.begun.clear()
    first = made.submit(job(0))
    assert model.begun.wait(5)
    return first


def run_together(jobs, **options):
    model = Doubler()
    made = batcher(model, **options)
    held_up(made, model)
    answers = [made.submit(one) for one in jobs]
    model.free.set()
    made.close()
    return answers, model.calls[1:]


def test_jobs_share_a_call_and_each_gets_its_own_rows():
    answers, calls = run_together([job(1), job(2, 3), job(4)])
    assert calls == [("double", [1, 2, 3, 4])]
    assert [answer.result()["y"].tolist() for answer in answers] == [[2], [4, 6], [8]]


@pytest.mark.parametrize(
    ("jobs", "options", "expected"),
    [
        ([job(1, kind=1), job(2, kind=2), job(3, kind=1)], {}, [[1, 3], [2]]),
        ([job(1, signature="a"), job(2, signature="b")], {}, [[1], [2]]),
        ([job(1, kind=None), job(2, kind=None)], {}, [[1], [2]]),
        ([job(1, 2, 3), job(4, 5), job(6)], {}, [[1, 2, 3], [4, 5, 6]]),
        ([job(1, 2, 3, 4, 5), job(6)], {}, [[1, 2, 3, 4, 5], [6]]),
        ([job(1, pixels=60), job(2, pixels=60), job(3, pixels=40)], {}, [[1], [2, 3]]),
        ([job(1), job(2)], {"batch": 1}, [[1], [2]]),
    ],
)
def test_only_what_fits_shares_a_call(jobs, options, expected):
    answers, calls = run_together(jobs, **options)
    assert [values for _, values in calls] == expected
    for one, answer in zip(jobs, answers, strict=True):
        np.testing.assert_array_equal(answer.result()["y"], 2 * one.inputs["x"])


def test_a_bad_job_spoils_no_other():
    answers, calls = run_together([job(1), job(-2), job(3)])
    assert [values for _, values in calls] == [[1, -2, 3], [1], [-2], [3]]
    assert answers[0].result()["y"].tolist() == [2] and answers[2].result()["y"].tolist() == [6]
    with pytest.raises(ValueError, match="negative"):
        answers[1].result()


def test_a_full_queue_refuses_and_recovers():
    model = Doubler()
    made = batcher(model, queue=2)
    held_up(made, model)
    waiting = [made.submit(job(1)), made.submit(job(2))]
    with pytest.raises(Refusal) as refusal:
        made.submit(job(3))
    assert refusal.value.status == 503 and refusal.value.headers["Retry-After"] == "1"
    model.free.set()
    assert [answer.result(5)["y"].tolist() for answer in waiting] == [[2], [4]]
    assert made.submit(job(3)).result(5)["y"].tolist() == [6]
    made.close()


def test_more_pixels_than_may_wait_are_refused_until_some_are_computed():
    model = Doubler()
    made = batcher(model, queue_pixels=100)
    held_up(made, model)
    waiting = made.submit(job(1, pixels=90))
    with pytest.raises(Refusal, match="91 pixels are waiting") as refusal:
        made.submit(job(2, pixels=20))
    assert refusal.value.status == 503 and refusal.value.headers["Retry-After"] == "1"
    last = made.submit(job(3, pixels=9))
    model.free.set()
    assert waiting.result(5)["y"].tolist() == [2] and last.result(5)["y"].tolist() == [6]
    made.close()


def test_pixels_are_given_back_whatever_became_of_their_job():
    model = Doubler()
    made = batcher(model, queue_pixels=100, batch=1)
    held_up(made, model)
    gone, bad = made.submit(job(1, pixels=50)), made.submit(job(-2, pixels=49))
    assert gone.cancel()
    model.free.set()
    with pytest.raises(ValueError, match="negative"):
        bad.result(5)
    until = time.monotonic() + 5
    while True:  # given back a moment after the answer
        try:
            answers = [made.submit(job(3, pixels=99)), made.submit(job(4, pixels=1))]
            break
        except Refusal:
            assert time.monotonic() < until
    assert [answer.result(5)["y"].tolist() for answer in answers] == [[6], [8]]
    made.close()


def test_a_single_job_of_more_pixels_than_may_wait_gets_in():
    model = Doubler()
    made = batcher(model, pixels=5000, queue_pixels=100)
    assert made.submit(job(1, pixels=4000)).result(5)["y"].tolist() == [2]
    made.close()


def test_closing_answers_what_was_taken_and_refuses_the_rest():
    model = Doubler()
    made = batcher(model)
    held_up(made, model)
    waiting = made.submit(job(1))
    closing = threading.Thread(target=made.close)
    closing.start()
    time.sleep(0.05)
    with pytest.raises(Refusal) as refusal:
        made.submit(job(2))
    assert refusal.value.status == 503
    model.free.set()
    closing.join(5)
    assert waiting.result(0)["y"].tolist() == [2]


def test_a_job_that_nobody_waits_for_is_left_out():
    model = Doubler()
    made = batcher(model)
    held_up(made, model)
    gone, kept = made.submit(job(1)), made.submit(job(2))
    assert gone.cancel()
    model.free.set()
    assert kept.result(5)["y"].tolist() == [4]
    made.close()
    assert model.calls[1:] == [("double", [2])]


def test_the_first_waits_for_others_but_not_long():
    model = Doubler()
    made = batcher(model, wait=0.5)
    first = made.submit(job(1))
    time.sleep(0.05)
    second = made.submit(job(2, 3, 4))
    started = time.monotonic()
    assert first.result(5)["y"].tolist() == [2] and second.result(5)["y"].tolist() == [4, 6, 8]
    assert model.calls == [("double", [1, 2, 3, 4])]
    assert time.monotonic() - started < 0.4, "a full call does not wait"
    assert made.submit(job(5)).result(5)["y"].tolist() == [10]
    made.close()


def test_many_threads_lose_nothing():
    model = Doubler()
    made = batcher(model, queue=1000, workers=3, wait=0.001)
    answers = {}

    def send(number):
        for value in range(50):
            answers[number, value] = made.submit(job(number, value, kind=number % 2)).result(10)["y"].tolist()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.close()
    assert answers == {(number, value): [2 * number, 2 * value] for number in range(12) for value in range(50)}
    assert sum(len(values) for _, values in model.calls) == 12 * 50 * 2
