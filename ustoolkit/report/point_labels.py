"""Names written beside points, so that they cover neither each other nor what is drawn."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from ustoolkit.report import figures
from ustoolkit.report.axis_names import TEXT

_GAP = 1.5  # points that stay free around a name
_DISTANCES = (5, 8, 12, 18, 26, 36, 48, 62, 78, 96, 120, 150)  # points, from the point to its name
_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 68, 292, 112, 248)  # degrees, the best first
_FAR = 10  # points; a name farther off is joined to its point by a thin line
_LINE_STEP = 4  # points between the places of a line that names keep clear of


@dataclass(frozen=True)
class PointLabel:
    """A name and where its point lies.

    Attributes:
        text: any text.
        across, up: in the data's units.
        direction: where the name stands if it can, degrees from the right, 90 being above; None for any side.
    """

    text: str
    across: float
    up: float
    direction: int | None = None


@dataclass(frozen=True)
class _Box:
    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "_Box") -> float:
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.top, other.top) - max(self.bottom, other.bottom)
        return across * up if across > 0 and up > 0 else 0.0

    def outside(self, other: "_Box") -> float:
        within = (self.right - self.left) * (self.top - self.bottom)
        return within - self.overlap(other)


def place_labels(axes: Axes, labels: Sequence[PointLabel], size: float = TEXT, marker: float = 7.0) -> None:
    """Writes each name beside its point, at the nearest place that is free, and joins distant ones by a thin line.

    What is free is judged by the lines and error bars that the axes hold, so everything else is drawn before, and the
    limits of the axes stay as they are then. Where there is no free place, the one that covers least is taken.

    Args:
        axes: with its limits and everything else of the figure in place.
        labels: names and their points.
        size: of the text, points.
        marker: width of the points, points.
    """
    if not labels:
        return
    figure = axes.figure.figure
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    texts = [
        axes.annotate(
            label.text,
            (label.across, label.up),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            color=figures.INK,
            parse_math=False,
            annotation_clip=False,
            zorder=5,
        )
        for label in labels
    ]
    for text in texts:
        text.set_in_layout(False)
    figure.draw_without_rendering()  # which settles where the axes lie
    points_a_pixel = 72 / figure.dpi
    window = _box(np.asarray(axes.get_window_extent().get_points()) * points_a_pixel)
    places = axes.transData.transform([(label.across, label.up) for label in labels]) * points_a_pixel
    sizes = [
        (extent.width * points_a_pixel, extent.height * points_a_pixel)
        for extent in (text.get_window_extent() for text in texts)
    ]
    taken, names = _drawn(axes, points_a_pixel, marker), list[_Box]()
    # Points in a crowd choose first, while places near them are left.
    crowd = [float(np.sort(np.linalg.norm(places - place, axis=1))[: min(4, len(places))].sum()) for place in places]
    for number in sorted(range(len(labels)), key=lambda number: (crowd[number], number)):
        angles = _ordered(labels[number].direction)
        offset, box, distance = _best(places[number], sizes[number], angles, taken, names, window)
        texts[number].set_position((float(offset[0]), float(offset[1])))
        taken.append(box)
        names.append(box)
        if distance > _FAR:
            taken += _join(axes, places[number], box, points_a_pixel, marker)


def _best(
    place: np.ndarray,
    size: tuple[float, float],
    angles: Sequence[int],
    taken: list[_Box],
    names: list[_Box],
    window: _Box,
) -> tuple[np.ndarray, _Box, float]:
    width, height = size
    least = math.inf
    for distance in _DISTANCES:
        for angle in angles:
            direction = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
            offset = direction * (width / 2 + distance, height / 2 + distance)
            middle = place + offset
            box = _Box(
                middle[0] - width / 2 - _GAP,
                middle[1] - height / 2 - _GAP,
                middle[0] + width / 2 + _GAP,
                middle[1] + height / 2 + _GAP,
            )
            covered = sum(box.overlap(other) for other in taken) + 3 * box.outside(window)
            if distance > _FAR and covered < least:
                joint = _along(np.array([place, _nearest(box, place)]))
                covered += sum(part.overlap(name) for part in joint for name in names)
            if covered < least - 1e-6:
                least, chosen = covered, (offset, box, distance)
            if least < 1e-6:
                return chosen
    return chosen


def _drawn(axes: Axes, points_a_pixel: float, marker: float) -> list[_Box]:
    """Small boxes over everything drawn in the axes: markers, and the lines between them and of error bars."""
    boxes = []
    for line in axes.lines:
        corners = line.get_transform().transform(line.get_xydata()) * points_a_pixel
        radius = marker / 2 if line.get_marker() in ("o", "^", "s", "D", "v", "P") else 0.8
        boxes += [_around(corner, radius) for corner in corners if np.isfinite(corner).all()]
        if line.get_linestyle() not in ("", "None", " "):
            boxes += _along(corners)
    for collection in axes.collections:
        for path in collection.get_paths():
            boxes += _along(collection.get_transform().transform(path.vertices) * points_a_pixel)
    return boxes


def _along(corners: np.ndarray) -> list[_Box]:
    boxes = []
    for start, end in itertools.pairwise(corners):
        length = float(np.linalg.norm(end - start))
        if not math.isfinite(length):
            continue
        steps = np.linspace(0, 1, max(2, math.ceil(length / _LINE_STEP) + 1))
        boxes += [_around(start + (end - start) * step, 0.8) for step in steps]
    return boxes


def _join(axes: Axes, place: np.ndarray, box: _Box, points_a_pixel: float, marker: float) -> list[_Box]:
    """A thin line from the edge of a point's marker to the nearest place of its name."""
    end = _nearest(box, place)
    length = float(np.linalg.norm(end - place))
    start = place + (end - place) * min(1.0, (marker / 2 + 1) / length)
    ends = np.array([start, end])
    across, up = axes.transData.inverted().transform(ends / points_a_pixel).T
    axes.plot(across, up, color=figures.MUTED, linewidth=0.6, zorder=2.2, gid="joins-name")
    return _along(ends)


def _nearest(box: _Box, place: np.ndarray) -> np.ndarray:
    return np.array([np.clip(place[0], box.left, box.right), np.clip(place[1], box.bottom, box.top)])


def _ordered(direction: int | None) -> Sequence[int]:
    if direction is None:
        return _ANGLES
    return sorted(_ANGLES, key=lambda angle: abs((angle - direction + 180) % 360 - 180))


def _around(middle: np.ndarray, radius: float) -> _Box:
    return _Box(middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius)


def _box(corners: np.ndarray) -> _Box:
    (left, bottom), (right, top) = corners
    return _Box(float(left), float(bottom), float(right), float(top))
