"""Random numbers of images in TensorFlow that depend on nothing but a key: not on batch, order, thread or device."""

import tensorflow as tf

_STEPS = 2**24  # what float32 resolves between 0 and 1


class KeyedDraws:
    """Numbers for each image of a batch, drawn by hashing (seed, epoch, source id, name of the number).

    Args:
        seed: of the training.
        epoch: int or integer scalar tensor.
        source_ids: string (batch,).
    """

    def __init__(self, seed: int, epoch: int | tf.Tensor, source_ids: tf.Tensor) -> None:
        epoch = tf.strings.as_string(epoch)
        self._keys = tf.strings.join([str(seed), epoch, source_ids], separator="/")

    def uniform(self, name: str, low: float, high: float) -> tf.Tensor:
        """Uniform numbers.

        Args:
            name: of the number; another name, another number.
            low: the least.
            high: never reached but by rounding.
        Returns:
            float32 (batch,).
        """
        # Each key is hashed as a whole, so numbers of two names are as independent as those of two images.
        share = tf.cast(tf.strings.to_hash_bucket_fast(self._named(name), _STEPS), tf.float32) / _STEPS
        return low + (high - low) * share

    def happens(self, name: str, probability: float) -> tf.Tensor:
        """Whether something happens to each image, bool (batch,)."""
        return self.uniform(name, 0.0, 1.0) < probability

    def bytes(self, name: str, size: tuple[int | tf.Tensor, ...]) -> tf.Tensor:
        """Random bytes, uint8 (batch, *size)."""
        seeds = tf.stack([tf.strings.to_hash_bucket_fast(self._named(f"{name} {half}"), 2**31) for half in "ab"], 1)
        count = tf.reduce_prod(size)

        def of_one(seed: tf.Tensor) -> tf.Tensor:
            words = tf.random.stateless_uniform([(count + 3) // 4], seed, None, None, tf.uint32, alg="philox")
            return tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count], size)

        return tf.map_fn(of_one, seeds, fn_output_signature=tf.uint8)

    def _named(self, name: str) -> tf.Tensor:
        return tf.strings.join([self._keys, name], separator="/")
