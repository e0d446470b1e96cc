"""Where training runs: one device, or all visible GPUs, always under a `tf.distribute` strategy."""

import tensorflow as tf


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy that a setting asks for.

    Args:
        name: 'auto' takes every visible GPU, else the CPU; 'one' a single device; 'mirrored' every visible GPU, or
            every logical CPU where there is no GPU.
    Returns:
        a strategy to build the model and run the steps under.
    """
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.OneDeviceStrategy(devices[0].name)
