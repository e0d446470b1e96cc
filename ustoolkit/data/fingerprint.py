"""A small summary of an image by which its copies are found again, and how two of them are compared.

Of an image only texture is kept: shapes between some 1/90 and 1/6 of the image, each relative to its surroundings. So
brightness, contrast and gamma fall away, and so do noise and compression, which are finer. At this size two scans of
one patient differ in their speckle; at half of it two chests would no longer differ.
"""

from dataclasses import dataclass

import cv2
import numpy as np

LENGTH = 4096  # bytes
LANDMARKS = 32  # an image, at most
# Similarity of one picture: 99.6 % of 4,884 planted copies reach it. Of different images, the most alike of 200 chest
# X-rays have 0.59, of 1,500 photographs 0.46, two views of one phantom 0.43, two scans of one breast 0.29.
SAME_PICTURE = 0.68

_HEADER, _VERSION = 4, 1
_PIXELS = 2 * (LENGTH - _HEADER)  # two to a byte
_SURROUNDINGS = 8.0  # pixels of the thumbnail, the standard deviation of the window that texture is relative to
_FAINT = 2.0  # grey levels; what is fainter, such as the noise of black, is left faint
_RANGE = 2.5  # local standard deviations at which texture is clipped
_FLAT, _STEP = 7, 18  # the middle of 15 levels, and their distance
_MOST_OBLONG = 8.0
_ALIKE = 0.75  # cosine of two descriptors
_NEAR, _CLOSE = 6.0, 3.0  # pixels; a landmark so close to where it should be agrees, before the fit and after it
_FEWEST, _MANY = 5, 8  # landmarks that must agree, and from which they can tell of a stretch or shear, too
_WINDOW = 13  # pixels; local correlation
_FINE, _COARSE = 0.5, 1.5  # pixels, standard deviations; shapes in between are compared
_TEXTURED = 0.15  # local standard deviations; below lies a flat area
_EVIDENCE, _SHARED = 0.1, 0.3  # of the thumbnail, and of the texture of each, must be texture of both
_LOWEST = 1 / 3  # of the shared texture may be anything: text, calipers, a border
_AROUND = np.ones((5, 5), np.uint8)  # pixels beside an edge are not compared
# Blur (pixels) under which pixels are aligned, 0 for as the landmarks tell; similarity from which the next is worth it.
_STAGES = ((0, 0.0), (5, 0.3), (3, 1.0))


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points of an image that are found again in its copies.

    Attributes:
        places: float32 (n, 4): x, y, diameter (pixels of the thumbnail), direction (degrees).
        descriptors: uint8 (n, 128), of length 512: the square root of SIFT's.
    """

    places: np.ndarray
    descriptors: np.ndarray


@dataclass(frozen=True, eq=False)
class Match:
    """How one image lies in another.

    Attributes:
        similarity: -1 to 1, the correlation that two thirds of the shared texture exceed after alignment, so that
            text, calipers or a border on the rest do not count.
        matrix: float32 (2, 3), from pixels of the first thumbnail, mirrored where `mirrored`, to those of the second.
        mirrored: left to right.
    """

    similarity: float
    matrix: np.ndarray
    mirrored: bool


def fingerprint(image: np.ndarray) -> bytes:
    """Summarises an image in 4,096 bytes, so that its copies are found without reading it again.

    Args:
        image: uint8 (height, width, 1 or 3).
    Returns:
        4,096 bytes; see `texture`.
    """
    grey = image[..., 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = _thumbnail_size(*grey.shape)
    how = cv2.INTER_AREA if grey.size > height * width else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(grey).astype(np.float32), (width, height), interpolation=how)
    deviation = small - _blur(small, _SURROUNDINGS)
    relative = deviation / np.sqrt(_blur(deviation**2, _SURROUNDINGS) + _FAINT**2)
    levels = (np.rint(relative * (_FLAT / _RANGE)) + _FLAT).clip(0, 2 * _FLAT).astype(np.uint8).ravel()
    levels = np.append(levels, np.zeros(levels.size % 2, np.uint8))
    packed = levels[0::2] << 4 | levels[1::2]
    return (bytes([_VERSION, height, width, 0]) + packed.tobytes()).ljust(LENGTH, b"\0")


def texture(content: bytes) -> np.ndarray:
    """The thumbnail in a fingerprint.

    Args:
        content: from `fingerprint`.
    Returns:
        uint8 (height, width), some 8,000 pixels in the image's aspect: 15 levels from 0 to 252, 126 where flat.
    """
    _, height, width, _ = content[:_HEADER]
    packed = np.frombuffer(content, np.uint8, (height * width + 1) // 2, _HEADER)
    levels = np.stack([packed >> 4, packed & 15], axis=1).ravel()[: height * width]
    return (levels * _STEP).reshape(height, width)


def find_landmarks(thumbnail: np.ndarray) -> Landmarks:
    """The strongest points of a thumbnail.

    Args:
        thumbnail: uint8 (height, width), from `texture`.
    """
    sift = cv2.SIFT.create(0, 3, 0.02, 12, 1.6, cv2.CV_32F, True)
    points, found = sift.detectAndCompute(thumbnail, None)
    if not points:
        return Landmarks(np.zeros((0, 4), np.float32), np.zeros((0, 128), np.uint8))
    places = np.array([(*point.pt, point.size, point.angle) for point in points], np.float32)
    strength = np.array([point.size * point.response for point in points])
    best = np.argsort(-strength, kind="stable")[:LANDMARKS]
    shares = found[best] / np.maximum(found[best].sum(axis=1, keepdims=True), 1e-6)
    return Landmarks(places[best], np.rint(np.sqrt(shares) * 512).clip(0, 255).astype(np.uint8))


def mirror_landmarks(landmarks: Landmarks, width: int) -> Landmarks:
    """The landmarks of the image mirrored left to right.

    Args:
        landmarks: of the image.
        width: of its thumbnail, pixels.
    """
    x, y, size, angle = landmarks.places.T
    places = np.stack([width - 1 - x, y, size, (180 - angle) % 360], axis=1)
    return Landmarks(places, landmarks.descriptors[:, _MIRRORED])


def compare(
    first: np.ndarray, second: np.ndarray, marks: Landmarks, other_marks: Landmarks, mirrored: bool
) -> Match | None:
    """Lays one thumbnail over another by their landmarks, then by their pixels, and says how alike they are.

    Args:
        first: uint8 (height, width), from `texture`.
        second: of the other image.
        marks: landmarks of `first`, not mirrored.
        other_marks: landmarks of `second`.
        mirrored: whether `first` is to be mirrored before.
    Returns:
        None where too few landmarks agree or too little texture is shared to tell.
    """
    if mirrored:
        first = np.ascontiguousarray(first[:, ::-1])
        marks = mirror_landmarks(marks, first.shape[1])
    matrix = _align(marks, other_marks)
    if matrix is None:
        return None
    first, second = _as_deviation(first), _as_deviation(second)
    shapes, other_shapes = _Shapes(first), _Shapes(second)
    best = None
    for blur, promising in _STAGES:
        refined = _refine(first, second, matrix, blur) if blur else matrix
        if refined is None or (similarity := _similarity(shapes, other_shapes, refined)) is None:
            break
        matrix = refined
        if best is None or similarity > best.similarity:
            best = Match(similarity, matrix, mirrored)
        if best.similarity < promising:
            break
    return best


def _thumbnail_size(height: int, width: int) -> tuple[int, int]:
    aspect = min(max(height / width, 1 / _MOST_OBLONG), _MOST_OBLONG)
    rows = int(np.sqrt(_PIXELS * aspect))
    return rows, min(255, _PIXELS // rows, round(rows / aspect))


def _blur(values: np.ndarray, deviation: float) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), deviation, borderType=cv2.BORDER_REFLECT_101)


def _mirrored_order() -> np.ndarray:
    """Where each of SIFT's 4 × 4 × 8 values (row, column, direction) comes from in the mirrored image."""
    order = np.arange(128).reshape(4, 4, 8)
    return order[::-1][:, :, -np.arange(8) % 8].ravel()


_MIRRORED = _mirrored_order()


def _align(marks: Landmarks, others: Landmarks) -> np.ndarray | None:
    """float32 (2, 3) that takes most landmarks to their like; None where too few agree."""
    if min(len(marks.places), len(others.places)) < _FEWEST:
        return None
    alike = marks.descriptors.astype(np.float32) @ others.descriptors.T.astype(np.float32) / 512**2
    best = alike.argmax(axis=1)
    here = np.arange(len(best))
    mutual = (alike[here, best] > _ALIKE) & (alike.argmax(axis=0)[best] == here)
    if mutual.sum() < _FEWEST:
        return None
    start, end = marks.places[mutual], others.places[best[mutual]]
    guesses = similarities(start, end)
    errors = np.linalg.norm(carry(guesses, start[:, :2]) - end[:, :2], axis=2)
    agreeing = errors < _NEAR
    chosen = np.lexsort((np.where(agreeing, errors, 0).sum(axis=1), -agreeing.sum(axis=1)))[0]
    inside = agreeing[chosen]
    matrix = guesses[chosen]
    for _ in range(2):
        if inside.sum() < _FEWEST:
            return None
        matrix = _fit(start[inside, :2], end[inside, :2])
        inside = np.linalg.norm(carry(matrix[None], start[:, :2])[0] - end[:, :2], axis=1) < _CLOSE
    return matrix if inside.sum() >= _FEWEST else None


def similarities(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The turn, scale and shift that each landmark's place tells on its own.

    Args:
        start: float (..., 4), places.
        end: float (..., 4), places of their like.
    Returns:
        float32 (..., 2, 3), matrices.
    """
    scale = end[..., 2] / start[..., 2]
    angle = np.deg2rad(end[..., 3] - start[..., 3])
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    x = end[..., 0] - cosine * start[..., 0] + sine * start[..., 1]
    y = end[..., 1] - sine * start[..., 0] - cosine * start[..., 1]
    rows = np.stack([cosine, -sine, x, sine, cosine, y], axis=-1).astype(np.float32)
    return rows.reshape(*scale.shape, 2, 3)


def carry(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points under each of several matrices: float (..., m, 2, 3) and (..., n, 2) give (..., m, n, 2)."""
    return np.einsum("...mij,...nj->...mni", matrices[..., :2], points) + matrices[..., None, :, 2]


def _fit(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The least squares matrix, float32 (2, 3); turn, scale and shift alone where there are few points."""
    columns = np.c_[start, np.ones(len(start))]
    if len(start) >= _MANY:
        square = columns.T @ columns + 1e-6 * np.eye(3)
        return np.ascontiguousarray(np.linalg.solve(square, columns.T @ end).T, np.float32)
    start, end = start @ [1, 1j], end @ [1, 1j]
    middle, target = start.mean(), end.mean()
    turn = np.vdot(start - middle, end - target) / max(np.vdot(start - middle, start - middle).real, 1e-9)
    shift = target - turn * middle
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]], np.float32)


def _as_deviation(thumbnail: np.ndarray) -> np.ndarray:
    return (thumbnail.astype(np.float32) - _FLAT * _STEP) * (_RANGE / (_FLAT * _STEP))


def _refine(first: np.ndarray, second: np.ndarray, matrix: np.ndarray, blur: int) -> np.ndarray | None:
    """The matrix after maximising correlation; None where it does not converge."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-5)
    try:
        # OpenCV's stubs want a mask where there is a blur; the library does not.
        return cv2.findTransformECC(first, second, matrix.copy(), cv2.MOTION_AFFINE, stop, None, blur)[1]  # type: ignore[call-overload]
    except cv2.error as problem:
        if problem.code != cv2.Error.StsNoConv:
            raise
        return None


class _Shapes:
    """What is compared of a thumbnail: shapes of middle size, and how much of its area holds any."""

    def __init__(self, deviation: np.ndarray):
        self.band = _blur(deviation, _FINE) - _blur(deviation, _COARSE)
        self.textured = int(np.count_nonzero(_sum(self.band**2) > _TEXTURED**2 * _WINDOW**2))


def _similarity(first: _Shapes, second: _Shapes, matrix: np.ndarray) -> float | None:
    """`Match.similarity` under a matrix; None where too little texture is shared."""
    height, width = first.band.shape
    one = first.band
    two = cv2.warpAffine(second.band, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    covered = _covered(second.band.shape, matrix, height, width)
    count = np.maximum(_sum(covered), 1)
    power, other_power = _sum(covered * one**2) / count, _sum(covered * two**2) / count
    area = (covered > 0) & (count > _WINDOW**2 / 2)
    both = area & (power > _TEXTURED**2) & (other_power > _TEXTURED**2)
    shared = np.count_nonzero(both)
    evidence = np.count_nonzero(both & (np.abs(one) > _TEXTURED))
    zoom = abs(float(np.linalg.det(matrix[:, :2])))  # area in the second thumbnail of a pixel in the first
    if evidence < _EVIDENCE * one.size or shared < _SHARED * max(first.textured, second.textured / max(zoom, 1e-6)):
        return None
    correlation = (_sum(covered * one * two) / count)[both] / np.sqrt(power[both] * other_power[both])
    lowest = int(shared * _LOWEST)
    return float(np.partition(correlation, lowest)[lowest])


def _covered(shape: tuple[int, ...], matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 (height, width), 1 where a pixel and those around it lie in a thumbnail of this shape, else 0."""
    rows, columns = np.ogrid[:height, :width]
    x = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2]
    y = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2]
    inside = (np.minimum(x, y) >= 0) & (x <= shape[1] - 1) & (y <= shape[0] - 1)
    return cv2.erode(inside.astype(np.uint8), _AROUND, borderValue=0).astype(np.float32)


def _sum(values: np.ndarray) -> np.ndarray:
    return cv2.boxFilter(values, -1, (_WINDOW, _WINDOW), normalize=False, borderType=cv2.BORDER_CONSTANT)
