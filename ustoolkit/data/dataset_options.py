"""How tf.data runs every dataset that training reads."""

import tensorflow as tf

BATCHES_AHEAD = 4  # ready before they are asked for


def repeatable() -> tf.data.Options:
    """Options that keep the order, and leave out what tf.data tries out while it runs.

    With automatic tuning the end of each epoch waits for the thread that tunes, which sleeps for up to a minute: up to
    half of the time of short epochs.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
