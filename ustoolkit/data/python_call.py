"""Python within tf.data: what it raises reaches whoever takes the batches, and what it holds can be let go."""

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from ustoolkit.errors import RunError


class MayFail(Protocol):
    """Batches that are made by Python, in part or all."""

    @property
    def failure(self) -> Exception | None:
        """What Python raised; None where nothing went wrong."""


class PythonCall:
    """A function of arrays as an operation of tf.data.

    TensorFlow keeps what it is given here for as long as the process runs, so it gets a weak reference; the dataset in
    whose function this is called holds the other. Of an exception it passes on the text alone, and takes want of
    the machine's memory for that of a device; so the exception is kept here.

    Args:
        function: of arrays, in any number of threads; returns as many arrays as there are types.
        types: of what it returns.
    Attributes:
        failure: what it raised; want of memory as a `RunError`. None where nothing went wrong.
    """

    def __init__(self, function: Callable[..., Sequence[np.ndarray]], types: Sequence[tf.DType]) -> None:
        self._function: Callable[..., Sequence[np.ndarray]] | None = function
        self._types = types
        self.failure: Exception | None = None

    def __call__(self, *arguments: tf.Tensor) -> list[tf.Tensor]:
        """The operation; the shapes of what it gives are not known."""
        held = weakref.ref(self)

        def call(*arrays: np.ndarray) -> Sequence[np.ndarray]:
            function = getattr(held(), "_function", None)
            if function is None:
                raise RuntimeError("these batches have been closed")
            try:
                return function(*arrays)
            except Exception as problem:
                raise _kept(held(), problem) from None

        return tf.numpy_function(call, list(arguments), list(self._types))

    def close(self) -> None:
        """Lets go of the function and of what it holds."""
        self._function = None


@contextlib.contextmanager
def told_by(*parts: MayFail) -> Iterator[None]:
    """Raises what Python raised, where TensorFlow raises something of its own making.

    Args:
        parts: the batches that are iterated over within.
    """
    try:
        yield
    except tf.errors.OpError:
        for part in parts:
            if part.failure is not None:
                raise part.failure from None
        raise


def first_failure(parts: Sequence[MayFail | None]) -> Exception | None:
    """What was raised in the first part in which something was; None where nothing was."""
    return next((part.failure for part in parts if part is not None and part.failure is not None), None)


def _kept(call: PythonCall | None, problem: Exception) -> Exception:
    """The exception as it is told, kept where its call still is."""
    if isinstance(problem, MemoryError):
        # Raised as it is, it would look as if a device had too little.
        problem = RunError(
            "the memory of this machine does not suffice to make a batch of images. Lower augmentation.workers, set "
            "data.cache to 'off', or lower training.batch_size."
        )
    if call is not None:
        call.failure = problem
    return problem
