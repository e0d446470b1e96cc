"""Python within tf.data: its errors stay what they were, and nothing is held longer than it is needed."""

import gc
import weakref

import pytest
import tensorflow as tf

from ustoolkit.data.python_call import PythonCall, told_by
from ustoolkit.errors import OutputError, RunError


class Half:
    """Halves numbers, or raises what it is given."""

    def __init__(self, problem=None):
        self.problem = problem

    def __call__(self, numbers):
        if self.problem is not None:
            raise self.problem
        return (numbers / 2,)


def halves(call):
    return tf.data.Dataset.range(3).map(lambda number: call(number)[0])


def test_arrays_go_in_and_come_out():
    call = PythonCall(Half(), [tf.float64])
    with told_by(call):
        assert list(halves(call).as_numpy_iterator()) == [0.0, 0.5, 1.0]
    assert call.failure is None


@pytest.mark.parametrize("problem", [OutputError("no room"), OSError(5, "damaged"), ValueError("zip")])
def test_what_is_raised_is_what_was_raised(problem):
    call = PythonCall(Half(problem), [tf.float64])
    with pytest.raises(type(problem)) as raised, told_by(PythonCall(Half(), [tf.float64]), call):
        list(halves(call))
    assert raised.value is problem


def test_want_of_memory_is_not_taken_for_that_of_a_device():
    call = PythonCall(Half(MemoryError()), [tf.float64])
    with pytest.raises(RunError, match=r"memory of this machine does not suffice.*augmentation.workers"), told_by(call):
        try:
            list(halves(call))
        except tf.errors.ResourceExhaustedError:
            pytest.fail("looks as if a device had too little")


def test_what_tensorflow_raises_itself_passes():
    call = PythonCall(Half(), [tf.float64])
    with pytest.raises(tf.errors.InvalidArgumentError), told_by(call):
        tf.ensure_shape(tf.reshape(tf.zeros(3), tf.constant([2])), [2])


def test_the_function_goes_with_the_last_dataset():
    function = Half()
    call = PythonCall(function, [tf.float64])
    gone, dataset = weakref.ref(function), halves(call)
    del function, call
    gc.collect()
    assert list(dataset.as_numpy_iterator()) == [0.0, 0.5, 1.0]  # the dataset holds it
    del dataset
    gc.collect()
    assert gone() is None


def test_the_function_goes_when_closed():
    function = Half()
    call = PythonCall(function, [tf.float64])
    gone, dataset = weakref.ref(function), halves(call)
    call.close()
    del function
    gc.collect()
    assert gone() is None
    with pytest.raises(tf.errors.UnknownError, match="have been closed"):
        list(dataset)
