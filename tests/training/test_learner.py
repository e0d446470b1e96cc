"""Settings that do not go with each other are refused before a network is built."""

from types import SimpleNamespace

import pytest
import tensorflow as tf

from ustoolkit.errors import RecipeError
from ustoolkit.recipe import load_recipe
from ustoolkit.training.learner import Learner

TWO_DEVICES = SimpleNamespace(num_replicas_in_sync=2)
PARAMETER_SERVERS = object.__new__(tf.distribute.ParameterServerStrategy)


@pytest.mark.parametrize(
    ("setting", "strategy", "told"),
    [
        ("xla=true", TWO_DEVICES, r"training\.xla: .*synchronized_normalization to false"),
        ("precision=float16", PARAMETER_SERVERS, r"training\.precision=float16: expected devices that step together"),
        ("averaging=ema", PARAMETER_SERVERS, r"training\.averaging=ema: .*--strategy multi-worker"),
    ],
)
def test_what_devices_cannot_do_is_refused(setting, strategy, told):
    with pytest.raises(RecipeError, match=told):
        Learner(load_recipe("demo", [f"training.{setting}"]), None, strategy)
