"""TensorFlow's side of `grouped.py`: the toolkit's `GroupedConvolution` in each of its lowerings, and Keras's `Conv2D`.

A task is words with values: 'layer=ours groups=8', 'layer=keras groups=8', 'layer=ours groups=8 lowering=split',
'… lowering=blocks block=32', '… filters=64', '… pass=forward'.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from side_protocol import serve

from ustoolkit.layers import grouped

import tensorflow as tf  # isort: skip; the package chooses the Keras first
import tf_keras as keras  # isort: skip

tf.get_logger().setLevel("ERROR")


class TensorFlow:
    """Times layers, and leaves what they give in files.

    Args:
        folder: holds `layer.npz` with 'inputs' and 'outer', the gradient of the outputs, both (batch, height, width,
            channels), 'bias' (channels,), and 'kernel_G' (3, 3, channels / G, channels) for G groups.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stored = np.load(folder / "layer.npz")
        self._inputs, self._outer = (tf.constant(self._stored[name]) for name in ("inputs", "outer"))
        self._steps: dict[str, Callable[[], Any]] = {}

    def hello(self) -> dict[str, Any]:
        """Version; TensorFlow takes one thread a core by itself."""
        return {"tensorflow": tf.__version__}

    def describe(self, subject: str) -> dict[str, Any]:
        """Leaves outputs and the gradients of inputs, kernel and bias in a file of the answer's name."""
        outputs, by_inputs, by_kernel, by_bias = (tensor.numpy() for tensor in self.prepare(subject)())
        path = self._folder / f"{subject} of TensorFlow.npz"
        np.savez(path, outputs=outputs, inputs=by_inputs, kernel=by_kernel, bias=by_bias)
        return {"file": path.name}

    def prepare(self, task: str) -> Callable[[], object]:
        """See `side_protocol.Framework`; what `describe` has compiled is not compiled again."""
        if task not in self._steps:
            self._steps[task] = self._step(dict(word.split("=") for word in task.split()))
        return self._steps[task]

    def _step(self, how: dict[str, str]) -> Callable[[], Any]:
        filters = int(how.get("filters", 0))
        layer = self._layer(how, filters)
        outer = self._outer[..., :filters] if filters else self._outer

        @tf.function
        def forward(inputs: tf.Tensor) -> tf.Tensor:
            return layer(inputs)

        @tf.function
        def both(inputs: tf.Tensor, outer: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = layer(inputs)
            # The outputs are returned too: else TensorFlow would find out that the gradients do without them.
            return outputs, *tape.gradient(outputs, [inputs, *layer.trainable_variables], outer)

        block = grouped.BLOCK_CHANNELS
        grouped.BLOCK_CHANNELS = int(how.get("block", block))
        try:  # it is read while tracing
            if how.get("pass") == "forward":
                traced = forward.get_concrete_function(self._inputs)
                return lambda: traced(self._inputs)
            traced = both.get_concrete_function(self._inputs, outer)
            return lambda: traced(self._inputs, outer)
        finally:
            grouped.BLOCK_CHANNELS = block

    def _layer(self, how: dict[str, str], filters: int) -> keras.layers.Layer:
        groups, channels = int(how["groups"]), self._inputs.shape[-1]
        if how["layer"] == "keras":
            layer = keras.layers.Conv2D(channels, 3, padding="same", groups=groups)
        else:
            lowering = how.get("lowering", "fastest")
            layer = grouped.GroupedConvolution(filters, channels // groups, lowering=lowering)
        layer.build(self._inputs.shape)
        for variable, name in zip(layer.trainable_variables, (f"kernel_{groups}", "bias"), strict=False):
            variable.assign(self._stored[name])
        return layer


if __name__ == "__main__":
    serve(TensorFlow(Path(sys.argv[1])))
