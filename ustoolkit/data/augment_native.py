"""Random changes of training images by TensorFlow alone: the same in distribution as imgaug's, in any graph.

So they run in `tf.data`, in tf.data service and on other machines, where no Python is, and take no interpreter's lock.
"""

import tensorflow as tf

from ustoolkit.data import native_scanner_changes as scanner
from ustoolkit.data.keyed_draws import KeyedDraws
from ustoolkit.recipe.augmentation import AugmentationSettings


class NativeAugmenter:
    """Draws and applies random changes to batches; the same (seed, epoch, source id), the same change.

    Args:
        settings: how far each change may go; `engine` and `workers` are not read.
        seed: another seed, other changes.
    """

    def __init__(self, settings: AugmentationSettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        # A graph wherever it is called: an eager call would round a few pixels otherwise.
        self._graph = tf.function(self._changed)

    def __call__(
        self, images: tf.Tensor, masks: tf.Tensor, source_ids: tf.Tensor, epoch: int | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Changes a batch; what an image becomes does not depend on the others.

        Args:
            images: uint8 (batch, height, width, channels).
            masks: uint8 (batch, height, width), class indices; moved with nearest neighbour.
            source_ids: string (batch,).
            epoch: from 0, or an integer scalar tensor.
        Returns:
            images and masks, of the same shapes and types; what comes in from outside the image is 0.
        """
        images, masks = tf.convert_to_tensor(images), tf.convert_to_tensor(masks)
        values, moved = self._graph(images, masks, source_ids, tf.cast(epoch, tf.int64))
        return tf.ensure_shape(values, images.shape), tf.ensure_shape(moved, masks.shape)

    def _changed(
        self, images: tf.Tensor, masks: tf.Tensor, source_ids: tf.Tensor, epoch: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        draws = KeyedDraws(self._seed, epoch, source_ids)
        values, masks = self._mirrored(tf.cast(images, tf.float32), masks, draws)
        values, masks = self._moved(values, masks, draws)
        values = self._scanned(self._brightened(values, draws), draws)
        # Every step ends in whole grey values, as imgaug's do.
        return tf.cast(values, tf.uint8), masks

    def _mirrored(self, values: tf.Tensor, masks: tf.Tensor, draws: KeyedDraws) -> tuple[tf.Tensor, tf.Tensor]:
        settings = self._settings
        for name, share, axis in (("left", settings.horizontal_flip, 2), ("up", settings.vertical_flip, 1)):
            if share:
                turns = draws.happens(name, share)
                values = tf.where(turns[:, None, None, None], tf.reverse(values, [axis]), values)
                masks = tf.where(turns[:, None, None], tf.reverse(masks, [axis]), masks)
        return values, masks

    def _moved(self, values: tf.Tensor, masks: tf.Tensor, draws: KeyedDraws) -> tuple[tf.Tensor, tf.Tensor]:
        settings = self._settings
        if not (settings.rotation_degrees or settings.shift or settings.shear_degrees or settings.zoom):
            return values, masks
        size = tf.shape(masks)[1:]
        maps = _inverse_maps(settings, tf.cast(size, tf.float32), draws)

        def warped(pixels: tf.Tensor, interpolation: str) -> tf.Tensor:
            return tf.raw_ops.ImageProjectiveTransformV3(
                images=pixels,
                transforms=maps,
                output_shape=size,
                fill_value=0.0,
                interpolation=interpolation,
                fill_mode="CONSTANT",
            )

        return tf.round(warped(values, "BILINEAR")), warped(masks[..., tf.newaxis], "NEAREST")[..., 0]

    def _brightened(self, values: tf.Tensor, draws: KeyedDraws) -> tf.Tensor:
        settings = self._settings
        if settings.contrast:
            factor = draws.uniform("contrast", 1 - settings.contrast, 1 + settings.contrast)
            # Cut off, not rounded: so does imgaug's table.
            values = tf.floor(tf.clip_by_value(127 + factor[:, None, None, None] * (values - 127), 0, 255))
        if settings.channel_shift:
            reach = round(255 * settings.channel_shift)
            offset = tf.round(draws.uniform("channel shift", -reach, reach))
            values = tf.clip_by_value(values + offset[:, None, None, None], 0, 255)
        return values

    def _scanned(self, values: tf.Tensor, draws: KeyedDraws) -> tf.Tensor:
        settings = self._settings
        for name, off, change in _SCANNER_CHANGES:
            reach = getattr(settings, name)
            if reach != off:
                changed = change(values, reach, draws)
                if name != "shadow" and settings.scanner_probability < 1:
                    happens = draws.happens(f"{name} happens", settings.scanner_probability)
                    changed = tf.where(happens[:, None, None, None], changed, values)
                values = changed
        if settings.gamma:
            values = _bent(values, tf.pow(2.0, draws.uniform("gamma", -settings.gamma, settings.gamma)))
        return values


def _inverse_maps(settings: AugmentationSettings, size: tf.Tensor, draws: KeyedDraws) -> tf.Tensor:
    """From each pixel of the result to where it comes from, as imgaug's `Affine` moves it; float32 (batch, 8).

    imgaug turns a pixel's place by M = k R(a) [[1 - t², -t], [t, 1]] about the centre and shifts it then: one factor k
    of both axes, R(a) clockwise as the picture is seen, and t the tangent of one shear angle, which it applies along
    both axes. The determinant of the last factor is 1.
    """

    def drawn(name: str, reach: float) -> tf.Tensor:
        return draws.uniform(name, -reach, reach)

    angle = drawn("rotation", settings.rotation_degrees) * _RADIANS
    shear = tf.tan(drawn("shear", settings.shear_degrees) * _RADIANS)
    zoom = 1 + drawn("zoom", settings.zoom)
    right, down = drawn("shift x", settings.shift) * size[1], drawn("shift y", settings.shift) * size[0]
    if settings.probability < 1:
        moves = draws.happens("moves", settings.probability)
        angle, shear, right, down = (tf.where(moves, value, 0.0) for value in (angle, shear, right, down))
        zoom = tf.where(moves, zoom, 1.0)
    cosine, sine = tf.cos(angle) / zoom, tf.sin(angle) / zoom
    x_of_x, x_of_y = cosine - shear * sine, sine + shear * cosine
    keep = 1 - shear**2
    y_of_x, y_of_y = -shear * cosine - keep * sine, keep * cosine - shear * sine
    centre_x, centre_y = (size[1] - 1) / 2, (size[0] - 1) / 2
    to_x, to_y = centre_x + right, centre_y + down
    zero = tf.zeros_like(angle)
    return tf.stack(
        [
            x_of_x,
            x_of_y,
            centre_x - x_of_x * to_x - x_of_y * to_y,
            y_of_x,
            y_of_y,
            centre_y - y_of_x * to_x - y_of_y * to_y,
            zero,
            zero,
        ],
        axis=1,
    )


def _bent(values: tf.Tensor, exponent: tf.Tensor) -> tf.Tensor:
    """Powers of grey values by a table an image, cut off and not rounded as imgaug's is."""
    table = tf.floor(255 * tf.pow(tf.linspace(0.0, 1.0, 256), exponent[:, tf.newaxis]))
    return tf.gather(table, tf.cast(values, tf.int32), batch_dims=1)


# In their order, each with what it is when it is off.
_SCANNER_CHANGES = (
    ("resolution", 1, scanner.coarser),
    ("blur", 0, scanner.blurred),
    ("speckle", 0, scanner.speckled),
    ("shadow", 0, scanner.shadowed),
    ("gain", 0, scanner.amplified),
)
_RADIANS = 3.141592653589793 / 180
