"""Masks for the tests: drawn by hand, and drawn by hypothesis."""

import numpy as np
from hypothesis import strategies
from hypothesis.extra import numpy as numpy_strategies


def drawn(picture: str) -> np.ndarray:
    """Returns bool (height, width) of an ASCII picture, '#' for lesion, '.' for background."""
    lines = [line.strip() for line in picture.strip().splitlines()]
    return np.array([[character == "#" for character in line] for line in lines])


def sizes(largest: int = 12) -> strategies.SearchStrategy:
    return strategies.tuples(strategies.integers(1, largest), strategies.integers(1, largest))


@strategies.composite
def mask_pairs(draw, largest: int = 12, may_be_empty: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draws two masks of the same small size."""
    shape = draw(sizes(largest))
    pair = [draw(numpy_strategies.arrays(bool, shape)) for _ in range(2)]
    if not may_be_empty:
        for mask in pair:
            row, column = (draw(strategies.integers(0, length - 1)) for length in shape)
            mask[row, column] = True
    return pair[0], pair[1]
