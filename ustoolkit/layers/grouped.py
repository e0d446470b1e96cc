"""Convolution in groups of channels, done in the way that is fastest where it runs, always with the same weights."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras

Lowering = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# On the CPU the filter's gradient is computed for so many channels at once; a group alone may be too narrow to fill the
# processor's vectors. Measured by benchmarks/grouped.py.
BLOCK_CHANNELS = 16


def native(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """TensorFlow's own grouped convolution: right on the GPU; on the CPU its gradients are very slow.

    Args:
        inputs: float (batch, height, width, channels).
        kernel: the same type, (rows, columns, group size, channels): output channel c is computed from the input
            channels of the group that c is in. Sides are odd.
    Returns:
        (batch, height, width, channels), borders padded with 0.
    """
    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME")


def depthwise(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Groups of one channel as a depthwise convolution; arguments and result as `native`."""
    return tf.nn.depthwise_conv2d(inputs, tf.transpose(kernel, (0, 1, 3, 2)), strides=(1, 1, 1, 1), padding="SAME")


def split(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """A dense convolution for each group, joined; arguments and result as `native`."""
    groups = kernel.shape[3] // kernel.shape[2]
    parts = zip(tf.split(inputs, groups, axis=-1), tf.split(kernel, groups, axis=-1), strict=True)
    return tf.concat([native(part, own) for part, own in parts], axis=-1)


def blocks(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The native convolution with gradients that are fast on the CPU; arguments and result as `native`.

    The gradient of the input is a native convolution of the outputs' gradient with the turned kernel. That of the
    kernel is taken from dense blocks of several groups, of which only the diagonal counts: wasteful in numbers, and yet
    many times faster than the native gradient.
    """

    @tf.custom_gradient
    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradients(outer: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return native(outer, _turned(kernel)), _kernel_gradient(inputs, outer, kernel.shape)

        return native(inputs, kernel), gradients

    return convolve(inputs, kernel)


LOWERINGS: dict[str, Lowering] = {"native": native, "depthwise": depthwise, "split": split, "blocks": blocks}


def fastest(group_size: int, channels: int, filters: int = 0) -> str:
    """The lowering that is fastest on the devices that TensorFlow sees.

    Args:
        group_size: channels a group.
        channels: of the layer.
        filters: of a 1 × 1 convolution that follows at once, 0 where there is none.
    Returns:
        a name in `LOWERINGS`, or 'merged'.
    """
    if 0 < filters <= group_size:
        return "merged"
    if group_size == channels or tf.config.list_logical_devices("GPU"):
        return "native"
    return "depthwise" if group_size == 1 else "blocks"


def fitting_group_size(group_size: int, channels: int) -> int:
    """The group size that a layer of some channels takes.

    Args:
        group_size: as asked for.
        channels: of the layer.
    Returns:
        1 where 1 was asked for; all channels where there are no more than 3 (an image's); else the largest divisor of
        the channels that is no larger than asked for.
    """
    if group_size == 1:
        return 1
    if channels <= 3:
        return channels
    return max(size for size in range(1, min(group_size, channels) + 1) if channels % size == 0)


@keras.saving.register_keras_serializable("ustoolkit")
class GroupedConvolution(keras.layers.Layer):
    """Convolution within groups of channels, then 1 × 1 over all of them, nothing between; both with bias.

    After Li et al., Lightweight U-Net for Lesion Segmentation in Ultrasound Images, ISBI 2021. Borders are padded
    with 0. The weights are laid out the same whichever way of computing is chosen, so that a checkpoint moves between
    machines. Where few filters follow, both convolutions are merged into a dense one of fewer multiply-adds: they are
    linear, so the product of their kernels gives the same outputs and gradients.

    Args:
        filters: of the 1 × 1 convolution; 0 leaves it out, and there are as many channels out as in.
        group_size: channels a group; each layer takes what fits, see `fitting_group_size`.
        kernel_size: rows and columns of the kernel, odd.
        lowering: a name in `LOWERINGS`, 'merged', or 'fastest' for the choice of `fastest`.
        kernel_initializer: of both kernels, (kernel_size, kernel_size, group size, channels) and (1, 1, channels,
            filters).
    Input: float (batch, height, width, channels). Output: (batch, height, width, filters or channels).
    """

    def __init__(
        self,
        filters: int,
        group_size: int,
        kernel_size: int = 3,
        lowering: str = "fastest",
        kernel_initializer: str = "he_normal",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        known = (*LOWERINGS, "merged", "fastest")
        if lowering not in known:
            raise ValueError(f"expected a lowering of {', '.join(known)}, found {lowering!r}")
        if lowering == "merged" and not filters:
            raise ValueError("the lowering 'merged' needs filters to merge with, found 0")
        if filters < 0 or group_size < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                "expected filters of at least 0, a group size of at least 1 and an odd kernel size, found "
                f"{filters}, {group_size}, {kernel_size}"
            )
        self.filters, self.group_size, self.kernel_size = filters, group_size, kernel_size
        self.lowering, self.kernel_initializer = lowering, kernel_initializer

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes kernels and biases, and chooses the lowering."""
        channels = int(input_shape[-1])
        size = fitting_group_size(self.group_size, channels)
        if self.lowering == "depthwise" and size != 1:
            raise ValueError(f"the lowering 'depthwise' needs a group size of 1, found {size}")
        self.chosen = fastest(size, channels, self.filters) if self.lowering == "fastest" else self.lowering
        shape = (self.kernel_size, self.kernel_size, size, channels)
        self.kernel = self.add_weight("kernel", shape=shape, initializer=self.kernel_initializer)
        self.bias = self.add_weight("bias", shape=(channels,), initializer="zeros")
        if self.filters:
            shape = (1, 1, channels, self.filters)
            self.pointwise_kernel = self.add_weight(
                "pointwise_kernel", shape=shape, initializer=self.kernel_initializer
            )
            self.pointwise_bias = self.add_weight("pointwise_bias", shape=(self.filters,), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves."""
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        if self.chosen == "merged":
            pointwise = tf.convert_to_tensor(self.pointwise_kernel)
            dense = native(inputs, _merged(kernel, pointwise))
            return tf.nn.bias_add(dense, self.pointwise_bias + tf.linalg.matvec(pointwise[0, 0], bias, True))
        within = tf.nn.bias_add(LOWERINGS[self.chosen](inputs, kernel), bias)
        if not self.filters:
            return within
        return tf.nn.bias_add(native(within, tf.convert_to_tensor(self.pointwise_kernel)), self.pointwise_bias)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        """The input's, with the filters as channels."""
        return tf.TensorShape([*input_shape[:-1], self.filters or input_shape[-1]])

    def get_config(self) -> dict[str, Any]:
        """The arguments that rebuild the layer."""
        names = ("filters", "group_size", "kernel_size", "lowering", "kernel_initializer")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _merged(kernel: tf.Tensor, pointwise: tf.Tensor) -> tf.Tensor:
    """The dense kernel (rows, columns, channels, filters) that does what both do one after the other."""
    rows, columns, size, channels = kernel.shape
    groups, filters = channels // size, pointwise.shape[-1]
    by_group = tf.reshape(kernel, (rows, columns, size, groups, size))
    spread = tf.reshape(pointwise, (groups, size, filters))
    product = tf.einsum("rcigo,gof->rcgif", by_group, spread)
    return tf.reshape(product, (rows, columns, channels, filters))


def _turned(kernel: tf.Tensor) -> tf.Tensor:
    """Turned by half a turn, with input and output channels exchanged within each group."""
    rows, columns, size, channels = kernel.shape
    by_group = tf.reshape(kernel[::-1, ::-1], (rows, columns, size, channels // size, size))
    return tf.reshape(tf.transpose(by_group, (0, 1, 4, 3, 2)), kernel.shape)


def _kernel_gradient(inputs: tf.Tensor, outer: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    rows, columns, size, channels = shape
    groups = _groups_a_block(size, channels)
    width = groups * size
    count = channels // width
    parts = zip(tf.split(inputs, count, axis=-1), tf.split(outer, count, axis=-1), strict=True)
    dense = [
        tf.raw_ops.Conv2DBackpropFilter(
            input=part,
            filter_sizes=(rows, columns, width, width),
            out_backprop=own,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )
        for part, own in parts
    ]
    by_group = tf.reshape(tf.stack(dense, axis=2), (rows, columns, count, groups, size, groups, size))
    diagonal = tf.einsum("rcbgigo->rcibgo", by_group)
    return tf.reshape(diagonal, shape)


def _groups_a_block(size: int, channels: int) -> int:
    """The fewest groups that make a block of `BLOCK_CHANNELS` channels, among the divisors of their number."""
    count = channels // size
    divisors = [number for number in range(1, count + 1) if count % number == 0]
    return next((number for number in divisors if number * size >= BLOCK_CHANNELS), count)
