"""Regions of a mask inside a graph: what `postprocess` and `evaluation.measurements` do, as TensorFlow operations."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import tensorflow as tf

from ustoolkit.recipe.settings import InferenceSettings

_CHUNK = 256  # points whose distances to all others are in memory at a time
_HALVINGS = 110  # a third of what is left goes each time, until nothing is left of float64's digits
_OUTSIDE = -1e9


def clean_mask(mask: tf.Tensor, settings: InferenceSettings, classes: int) -> tf.Tensor:
    """What `ustoolkit.inference.postprocess.to_mask` does to a mask, once each pixel has a class.

    Args:
        mask: uint8 (height, width), class indices.
        settings: as there.
        classes: how many there are, the background included.
    Returns:
        uint8 (height, width), class indices.
    """
    regions = [_cleaned(mask == index, settings) for index in range(1, classes)]
    cleaned = tf.add_n([index * tf.cast(region, tf.int32) for index, region in enumerate(regions, 1)])
    if settings.fill_holes:
        cleaned = _holes_filled(cleaned, regions)
    return tf.cast(cleaned, tf.uint8)


def clean_lesion(lesion: tf.Tensor, settings: InferenceSettings) -> tf.Tensor:
    """The largest region of a mask of two classes, cleaned as `clean_mask` does.

    Args:
        lesion: bool (height, width).
        settings: as in `ustoolkit.inference.postprocess.to_mask`.
    Returns:
        bool (height, width), one 8-connected region or none; of equal ones the first stays.
    """
    cleaned = clean_mask(tf.cast(lesion, tf.uint8), settings, classes=2) > 0
    return cleaned if settings.largest_component else _largest(cleaned)


def label_regions(region: tf.Tensor, corners: bool = True) -> tf.Tensor:
    """Numbers the regions of a mask.

    Labels spread to neighbours, and at the same time from each label to those that bear it (Shiloach and Vishkin, J.
    Algorithms 1982), so that the number of rounds hardly grows with a region's length.

    Args:
        region: bool (height, width).
        corners: whether pixels that meet at a corner belong together (8-connected), or not (4-connected).
    Returns:
        int32 (height, width): the place of the region's first pixel, row by row; height × width outside of regions.
    """
    size = tf.size(region)
    labels = tf.where(region, tf.reshape(tf.range(size), tf.shape(region)), size)

    def spread(labels: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        lowest = tf.where(region, _lowest_near(labels, size, corners), size)
        first = tf.concat([tf.reshape(labels, [-1]), [size]], 0)
        borne = tf.math.unsorted_segment_min(tf.reshape(lowest, [-1]), tf.reshape(labels, [-1]), size + 1)
        first = tf.minimum(first, borne)
        for _ in range(2):
            first = tf.gather(first, first)
        new = tf.reshape(first[:-1], tf.shape(labels))
        return new, tf.reduce_any(new != labels)

    return tf.while_loop(lambda labels, changes: changes, spread, [labels, tf.constant(True)])[0]


def measure_lesion(lesion: tf.Tensor, spacing: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
    """Long and short diameter, as `ustoolkit.evaluation.measurements.measure_size` finds them.

    Args:
        lesion: bool (height, width), not empty.
        spacing: float32 (2,), distance of rows and of columns, both above 0; None for pixels.
    Returns:
        float32 scalars, pixels, or what the spacing is in.
    """
    points = _outermost(lesion)
    order = points[:, 0] * (tf.cast(tf.shape(lesion)[1], tf.float64) + 1) * 4 + points[:, 1]
    if spacing is not None:
        points = points * tf.cast(spacing, tf.float64)

    def farthest(some: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(_squared_distances(some, points), axis=1)

    padding = -tf.shape(points)[0] % _CHUNK
    chunks = tf.reshape(tf.concat([points, tf.repeat(points[:1], padding, axis=0)], 0), [-1, _CHUNK, 2])
    reached = tf.reshape(tf.map_fn(farthest, chunks), [-1])[: tf.shape(points)[0]]
    first = points[_first(reached, order)]
    distances = _squared_distances(first[tf.newaxis], points)[0]
    longest = tf.sqrt(tf.reduce_max(distances))
    way = (points[_first(distances, order)] - first) / longest
    along, across = tf.linalg.matvec(points - first, way), (points - first) @ tf.stack([-way[1], way[0]])[:, tf.newaxis]
    return tf.cast(longest, tf.float32), tf.cast(_longest_chord(along, across[:, 0]), tf.float32)


def _first(values: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    """Place of the highest value; of equal ones that with the lowest order."""
    return tf.argmin(tf.where(values == tf.reduce_max(values), order, math.inf))


def _longest_chord(along: tf.Tensor, across: tf.Tensor) -> tf.Tensor:
    """The longest chord of the points' hull at right angles to `along`.

    It is as long as the points are high when they are sheared along it by the angle that makes them lowest: the sides
    of the hull at its ends can then be parallel. That height has one minimum, which is searched.
    """

    def height(angle: tf.Tensor) -> tf.Tensor:
        sheared = across - tf.tan(angle) * along
        return tf.reduce_max(sheared) - tf.reduce_min(sheared)

    def narrow(low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        third = (high - low) / 3
        lower = height(low + third) < height(high - third)
        return tf.where(lower, low, low + third), tf.where(lower, high - third, high)

    limit = tf.constant(math.pi / 2 - 1e-6, tf.float64)
    low, high = tf.while_loop(lambda low, high: True, narrow, [-limit, limit], maximum_iterations=_HALVINGS)
    return height((low + high) / 2)


def _outermost(lesion: tf.Tensor) -> tf.Tensor:
    """float64 (n, 2), rows and columns of the middles of outer edges of pixels, outermost in their row or column."""
    found = []
    for axis in (0, 1):
        turned = lesion if axis == 0 else tf.transpose(lesion)
        lines = tf.where(tf.reduce_any(turned, axis=1))[:, 0]
        filled = tf.cast(tf.gather(turned, lines), tf.uint8)
        low = tf.argmax(filled, axis=1)
        high = tf.cast(tf.shape(filled)[1], tf.int64) - 1 - tf.argmax(filled[:, ::-1], axis=1)
        for edge in (tf.cast(low, tf.float64) - 0.5, tf.cast(high, tf.float64) + 0.5):
            pair = [tf.cast(lines, tf.float64), edge]
            found.append(tf.stack(pair if axis == 0 else pair[::-1], axis=1))
    return tf.concat(found, 0)


def _squared_distances(some: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum((some[:, tf.newaxis] - others[tf.newaxis]) ** 2, axis=-1)


def _lowest_near(labels: tf.Tensor, size: tf.Tensor, corners: bool) -> tf.Tensor:
    rows = tf.pad(labels, [[1, 1], [0, 0]], constant_values=size)
    rows = tf.minimum(tf.minimum(rows[:-2], rows[2:]), labels)
    columns = tf.pad(rows if corners else labels, [[0, 0], [1, 1]], constant_values=size)
    return tf.minimum(tf.minimum(columns[:, :-2], columns[:, 2:]), rows)


def _counted(region: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Labels, and by label how many pixels a region has; none outside of regions."""
    labels, size = label_regions(region), tf.size(region)
    ones = tf.cast(tf.reshape(region, [-1]), tf.int32)
    return labels, tf.math.unsorted_segment_sum(ones, tf.reshape(labels, [-1]), size + 1)


def _largest(region: tf.Tensor) -> tf.Tensor:
    labels, count = _counted(region)
    return region & (labels == tf.argmax(count, output_type=tf.int32))


def _cleaned(region: tf.Tensor, settings: InferenceSettings) -> tf.Tensor:
    """A class without its small, its thin, or all but its largest regions; holes stay."""
    if settings.smallest_region_pixels > 1:
        labels, count = _counted(region)
        region = region & (tf.gather(count, labels) >= settings.smallest_region_pixels)
    if settings.opening_radius_pixels:
        region = _opened(region, settings.opening_radius_pixels)
    return _largest(region) if settings.largest_component else region


def _holes_filled(mask: tf.Tensor, regions: Sequence[tf.Tensor]) -> tf.Tensor:
    """int32 (height, width), where background that classes enclose is the innermost one's."""
    filled, innermost = mask, tf.fill(tf.shape(mask), tf.int32.max)
    for index, region in enumerate(regions, 1):
        whole = _filled(region)
        enclosed = (mask == 0) & whole
        if len(regions) > 1:
            labels, count = _counted(whole)
            area = tf.gather(count, labels)
            enclosed = enclosed & (area < innermost)
            innermost = tf.where(enclosed, area, innermost)
        filled = tf.where(enclosed, index, filled)
    return filled


def _filled(region: tf.Tensor) -> tf.Tensor:
    """With what it encloses; background is 4-connected, and a way out at the picture's edge is open."""
    labels, size = label_regions(~region, corners=False), tf.size(region)
    edges = tf.concat([labels[0], labels[-1], labels[:, 0], labels[:, -1]], 0)
    outside = tf.tensor_scatter_nd_update(
        tf.zeros([size + 1], tf.bool), edges[:, tf.newaxis], tf.ones_like(edges, tf.bool)
    )
    return region | ~tf.gather(outside, labels)


def _opened(region: tf.Tensor, radius: int) -> tf.Tensor:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    reach = tf.constant(np.where(disc, 0.0, _OUTSIDE)[..., np.newaxis], tf.float32)
    options = {"strides": [1, 1, 1, 1], "padding": "SAME", "data_format": "NHWC", "dilations": [1, 1, 1, 1]}
    pixels = tf.cast(region, tf.float32)[tf.newaxis, ..., tf.newaxis]
    # TensorFlow's erosion turns its filter round; a disc stays the same.
    opened = tf.nn.dilation2d(tf.nn.erosion2d(pixels, reach, **options), reach, **options)
    return opened[0, ..., 0] > 0.5
