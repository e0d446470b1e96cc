"""Images that are copies of one another, exact or changed, found without comparing every image with every other.

Equal pixels are found by their digest. For other copies, each image's landmarks look for their nearest neighbours among
all images' landmarks (an inverted index, so the cost grows little faster than the number of images). Two images of
which three landmarks agree on one turn, scale and shift are candidates, and `fingerprint.compare` decides on those.
"""

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import cv2
import numpy as np

from ustoolkit.data.fingerprint import (
    LANDMARKS,
    SAME_PICTURE,
    Landmarks,
    Match,
    carry,
    compare,
    find_landmarks,
    mirror_landmarks,
    similarities,
    texture,
)

_NEIGHBOURS = 4  # images that each landmark may vote for
_MIRRORED_LANDMARKS = 16  # of an image, the strongest, also look for their mirror image
_VOTES = 3  # landmarks that agree make a candidate
_AGREE = 5.0  # pixels; a landmark this close to where it should be agrees
_BLOCK = 512  # images, or pairs, taken at a time
_COMPARERS = 2  # threads; more of them wait for the interpreter's lock
_INDEXED = 10_000  # landmarks; fewer are compared each with each
_MOST_CELLS = 2048
_SAMPLES = 40  # landmarks a cell, which the index learns its cells from
_PROBED = 16  # cells searched for each landmark


@dataclass(frozen=True)
class Duplicate:
    """Two images of which one is a copy of the other.

    Attributes:
        first: index of one, the smaller.
        second: index of the other.
        exact: whether their pixels are equal.
        similarity: 1 where exact, else at least `SAME_PICTURE`; see `fingerprint.Match`.
        change: from first to second, in words joined by commas: 'none', 're-encoded', 'cropped', 'turned 90°'
            (clockwise), 'mirrored' (left to right), 'mirrored up-down', 'rotated 7°'.
    """

    first: int
    second: int
    exact: bool
    similarity: float
    change: str


def find_duplicates(
    fingerprints: Sequence[bytes], digests: Sequence[str], least: float = SAME_PICTURE
) -> list[Duplicate]:
    """Pairs of images that are copies of one another: exact, re-encoded, slightly cropped, turned, mirrored, marked.

    Of many copies of one image each is paired with some others, so that `group_duplicates` joins them all; of exact
    copies only the first is paired with the rest. What is joined does not depend on the order of the images.

    Args:
        fingerprints: of each image; read one at a time, so that they may lie on disk.
        digests: SHA-256 of each image's pixels, hex; equal ones are exact copies.
        least: similarity of the pairs to report, -1 to 1; see `fingerprint.SAME_PICTURE`.
    Returns:
        pairs, sorted.
    """
    by_digest = defaultdict(list)
    for number, digest in enumerate(digests):
        by_digest[digest].append(number)
    found = [Duplicate(members[0], other, True, 1.0, "none") for members in by_digest.values() for other in members[1:]]
    # In the order of digests, which the index then learns from, so that no other order shows in the result.
    unique = [by_digest[digest][0] for digest in sorted(by_digest)]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # each thread of ours calls OpenCV on its own
    try:
        matches: dict[tuple[int, int], Match] = {}
        for one, other, match in _near_duplicates(fingerprints, unique):
            if match.similarity < least:
                continue
            known = matches.get((one, other))  # a symmetric picture matches its mirror image too
            if known is None or known.similarity < match.similarity:
                matches[one, other] = match
        for (one, other), match in matches.items():
            change = _change(match, swapped=one > other)
            found.append(Duplicate(min(one, other), max(one, other), False, match.similarity, change))
    finally:
        cv2.setNumThreads(threads)
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def group_duplicates(count: int, duplicates: Sequence[Duplicate]) -> list[list[int]]:
    """Groups of images that are copies of one another, directly or through others.

    Args:
        count: of images.
        duplicates: pairs.
    Returns:
        groups of two or more indices, sorted.
    """
    parent = list(range(count))

    def root(member: int) -> int:
        while parent[member] != member:
            parent[member] = member = parent[parent[member]]
        return member

    for pair in duplicates:
        low, high = sorted((root(pair.first), root(pair.second)))
        parent[high] = low
    groups = defaultdict(list)
    for member in range(count):
        groups[root(member)].append(member)
    return [members for members in groups.values() if len(members) > 1]


def _near_duplicates(fingerprints: Sequence[bytes], numbers: list[int]) -> Iterator[tuple[int, int, Match]]:
    """Pairs of images, the first earlier in `numbers`, of which one may be a changed copy of the other."""
    with (
        ThreadPoolExecutor(os.cpu_count(), initializer=_start_thread) as pool,
        ThreadPoolExecutor(_COMPARERS) as comparers,
    ):
        marks = _AllLandmarks(len(numbers))
        for block in _blocks(len(numbers)):
            contents = [fingerprints[numbers[row]] for row in block]
            for row, found in zip(block, pool.map(_landmarks_of, contents), strict=True):
                marks.put(row, found)
        candidates = iter(_candidates(marks, pool))
        while pairs := list(islice(candidates, _BLOCK)):
            tasks = [
                _Task(
                    fingerprints[numbers[one]], fingerprints[numbers[other]], marks.of(one), marks.of(other), mirrored
                )
                for one, other, mirrored in pairs
            ]
            for (one, other, _), match in zip(pairs, comparers.map(_Task.compare, tasks), strict=True):
                if match is not None:
                    yield numbers[one], numbers[other], match


@dataclass(frozen=True, eq=False)
class _Task:
    first: bytes
    second: bytes
    marks: Landmarks
    other_marks: Landmarks
    mirrored: bool

    def compare(self) -> Match | None:
        return compare(texture(self.first), texture(self.second), self.marks, self.other_marks, self.mirrored)


class _AllLandmarks:
    """Landmarks of many images in three arrays."""

    def __init__(self, images: int):
        self.places = np.zeros((images, LANDMARKS, 4), np.float32)
        self.descriptors = np.zeros((images, LANDMARKS, 128), np.uint8)
        self.counts = np.zeros(images, np.int64)
        self.widths = np.zeros(images, np.int64)

    def put(self, image: int, found: tuple[Landmarks, int]) -> None:
        landmarks, self.widths[image] = found
        self.counts[image] = count = len(landmarks.places)
        self.places[image, :count] = landmarks.places
        self.descriptors[image, :count] = landmarks.descriptors

    def of(self, image: int) -> Landmarks:
        count = self.counts[image]
        return Landmarks(self.places[image, :count], self.descriptors[image, :count])


def _landmarks_of(content: bytes) -> tuple[Landmarks, int]:
    thumbnail = texture(content)
    return find_landmarks(thumbnail), thumbnail.shape[1]


def _start_thread() -> None:
    """Keeps faiss from starting threads of its own, which wait for one another and crawl on a busy machine."""
    import faiss  # here, since processes that only make fingerprints need none

    faiss.omp_set_num_threads(1)


def _candidates(marks: _AllLandmarks, pool: Executor) -> list[tuple[int, int, bool]]:
    """Pairs (earlier, later, mirrored) of which some landmarks agree, sorted."""
    images, slots = np.nonzero(np.arange(LANDMARKS) < marks.counts[:, None])
    if len(images) < 2 * _VOTES:
        return []
    index = pool.submit(_index, marks.descriptors, images, slots).result()

    def search(block: range) -> set[tuple[int, int, bool]]:
        part = slice(*np.searchsorted(images, [block.start, block.stop]))
        return {pair for mirrored in (False, True) for pair in _voted(index, marks, images, slots, part, mirrored)}

    return sorted(set().union(*pool.map(search, _blocks(len(marks.counts)))))


def _index(descriptors: np.ndarray, images: np.ndarray, slots: np.ndarray) -> Any:
    """A faiss index of all landmarks, in order."""
    import faiss

    count = len(images)
    if count <= _INDEXED:
        index: Any = faiss.IndexFlatL2(descriptors.shape[2])
    else:
        cells = min(_MOST_CELLS, 2 * math.isqrt(count))
        index = faiss.index_factory(descriptors.shape[2], f"IVF{cells},PQ64x4fs")
        index.cp.niter, index.cp.max_points_per_centroid, index.nprobe = 8, _SAMPLES, _PROBED
        sample = np.linspace(0, count - 1, min(count, cells * _SAMPLES)).astype(int)
        index.train(descriptors[images[sample], slots[sample]].astype(np.float32))
    for block in _blocks(count, _BLOCK * LANDMARKS):
        part = slice(block.start, block.stop)
        index.add(descriptors[images[part], slots[part]].astype(np.float32))
    return index


def _voted(
    index: Any, marks: _AllLandmarks, images: np.ndarray, slots: np.ndarray, part: slice, mirrored: bool
) -> Iterator[tuple[int, int, bool]]:
    """Pairs for which the landmarks in `part`, perhaps mirrored, vote with one turn, scale and shift."""
    askers, asked = images[part], slots[part]
    if mirrored:
        askers, asked = askers[asked < _MIRRORED_LANDMARKS], asked[asked < _MIRRORED_LANDMARKS]
    if not len(askers):
        return
    own = Landmarks(marks.places[askers, asked], marks.descriptors[askers, asked])
    if mirrored:
        own = mirror_landmarks(own, marks.widths[askers])
    found = index.search(own.descriptors.astype(np.float32), min(index.ntotal, _NEIGHBOURS + 2))[1]
    rows, columns = np.nonzero((found >= 0) & (images[found] != askers[:, None]))
    answer = found[rows, columns]
    start, end = own.places[rows], marks.places[images[answer], slots[answer]]
    pairs = np.stack([askers[rows], images[answer]], axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs, start, end = pairs[order], start[order], end[order]
    firsts = np.flatnonzero(np.r_[True, (pairs[1:] != pairs[:-1]).any(axis=1)]) if len(pairs) else np.zeros(0, int)
    votes = np.diff(np.r_[firsts, len(pairs)])
    for count in np.unique(votes[votes >= _VOTES]):
        members = firsts[votes == count][:, None] + np.arange(count)
        guesses = similarities(start[members], end[members])
        errors = np.linalg.norm(carry(guesses, start[members][..., :2]) - end[members][:, None, :, :2], axis=-1)
        agreed = (errors < _AGREE).sum(axis=2).max(axis=1) >= _VOTES
        for one, other in pairs[members[agreed, 0]].tolist():
            yield min(one, other), max(one, other), mirrored


def _change(match: Match, swapped: bool) -> str:
    """What was done to the first image, or to the second where they are swapped, to make the other."""
    mirror = np.diag([-1, 1])
    matrix = match.matrix[:, :2] @ mirror if match.mirrored else match.matrix[:, :2]
    mirrored = np.linalg.det(matrix) < 0
    matrix = matrix @ mirror if mirrored else matrix
    angle = math.degrees(math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
    quarters = round(angle / 90)
    rest = abs(angle - 90 * quarters)
    if swapped and not mirrored:  # a mirror image turned is its own inverse
        quarters = -quarters
    words = [(_MIRRORED_AND_TURNED if mirrored else _TURNED)[quarters % 4]]
    if rest >= _SMALLEST_ANGLE:
        words.append(f"rotated {rest:.0f}°")
    if abs(math.log(abs(np.linalg.det(matrix)))) > _SMALLEST_ZOOM:
        words.append("cropped")
    return ", ".join(filter(None, words)) or "re-encoded"


_TURNED = ("", "turned 90°", "turned 180°", "turned 270°")
_MIRRORED_AND_TURNED = ("mirrored", "mirrored and turned 90°", "mirrored up-down", "mirrored and turned 270°")
_SMALLEST_ANGLE = 1.0  # degrees
_SMALLEST_ZOOM = 0.03  # thumbnails are of one area, so a crop shows as a change of scale


def _blocks(count: int, size: int = _BLOCK) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(0, count, size))
