"""U-nets from small to large, for a data set on a machine, and what each costs by its settings alone. Plain Python."""

import math
from dataclasses import dataclass

from ustoolkit.data.profile import Profile

LESION_PIXELS = 8  # that small lesions are to have across at the network's size
USUAL_SIDE = 128  # pixels; the side that the rest was tuned at
SMALLEST_SIDE = 32
USUAL_WIDTH = 16  # filters of the first level
DEEPEST_SIDE = 8  # least pixels on a side of the deepest level, which so has fewer than twice as many
WIDEST = 8  # the deepest levels have so many times the filters of the first
SQUARE_ENOUGH = 1.4  # images up to this times as long as high, or high as long, become squares
LONGEST = 2.0  # sides of the input, one to the other
# Side of the input, to the side wanted, and filters of the first level: each step costs more than the one before it.
_STEPS = ((0.5, 8), (0.75, 8), (1, 8), (1, USUAL_WIDTH), (1.25, 16), (1.5, 16), (1.5, 32), (2, 32), (2, 64))
_MOST_LEVELS = 7


@dataclass(frozen=True)
class NetworkSize:
    """What makes a U-net with narrowing decoder large or small.

    Attributes:
        image_size: height and width of the input, pixels.
        widths: filters of each level.
        stem: factor by which the image is made smaller first.
    """

    image_size: tuple[int, int]
    widths: tuple[int, ...]
    stem: int

    @property
    def multiply_adds(self) -> int:
        """Of one grey image and one logit a pixel, as `models.cost.multiply_adds` counts them."""
        height, width = self.image_size
        areas = [(height * width) // (self.stem * 2**level) ** 2 for level in range(len(self.widths))]
        total, current = 0, 1
        if self.stem > 1:
            total, current = areas[0] * (2 * self.stem) ** 2 * self.widths[0], self.widths[0]
        for area, filters in zip(areas, self.widths, strict=True):
            total += 9 * area * (current + filters) * filters
            current = filters
        for level in reversed(range(len(self.widths) - 1)):
            joined = self.widths[level] + current
            middle, current = max(1, joined // 2), self.widths[max(level - 1, 0)]
            total += 9 * areas[level] * (joined + current) * middle
        return total + areas[0] * current

    @property
    def activations(self) -> float:
        """What memory goes with: filters × pixels of the first level."""
        return self.image_size[0] * self.image_size[1] * self.widths[0] / self.stem**2

    def __str__(self) -> str:
        """In words, for a person."""
        height, width = self.image_size
        return f"{height} × {width} with {self.widths[0]} filters"


def wanted_side(profile: Profile) -> tuple[float, str]:
    """The side of the input, pixels, that suits images and lesions, and why."""
    side, reason = float(USUAL_SIDE), f"{USUAL_SIDE} pixels a side, as tuned"
    if profile.lesion_share is not None:
        needed = LESION_PIXELS / profile.lesion_share.low
        if needed > side:
            side = needed
            reason = f"{needed:.0f} pixels a side, so that the smallest 5 % of lesions have {LESION_PIXELS} across"
    if profile.side < side:
        return max(profile.side, SMALLEST_SIDE), f"{profile.side:.0f} pixels a side, as the images have"
    return side, reason


def sizes_for(
    profile: Profile,
    stem: int,
    image_size: tuple[int, int] | None = None,
    widths: tuple[int, ...] | None = None,
) -> tuple[list[NetworkSize], int]:
    """Networks for a data set, from small to large: none has a smaller input or fewer filters than the one before it.

    Args:
        profile: of the data set.
        stem: of every network.
        image_size: where the user says it.
        widths: where the user says them.
    Returns:
        the networks, and the place of the usual one among them.
    """
    side, _ = wanted_side(profile)
    sizes: list[NetworkSize] = []
    usual = 0
    for share, filters in _STEPS:
        scaled = max(SMALLEST_SIDE, min(side * share, max(side, profile.side)))
        found = _size(profile, scaled, filters, stem, image_size, widths)
        if not sizes or found.multiply_adds > sizes[-1].multiply_adds:
            sizes.append(found)
        if (share, filters) == (1, USUAL_WIDTH):
            usual = len(sizes) - 1
    return sizes, usual


def _size(
    profile: Profile,
    side: float,
    filters: int,
    stem: int,
    image_size: tuple[int, int] | None,
    widths: tuple[int, ...] | None,
) -> NetworkSize:
    stretch = _stretch(profile)
    sides = image_size or (side / math.sqrt(stretch), side * math.sqrt(stretch))
    levels = len(widths) if widths else _levels(sides, stem)
    while image_size and not widths and levels > 2 and any(each % (stem * 2 ** (levels - 1)) for each in image_size):
        levels -= 1  # an input that the user gives stays as it is
    stride = stem * 2 ** (levels - 1)
    whole = image_size or tuple(max(1, round(each / stride)) * stride for each in sides)
    return NetworkSize(whole, widths or tuple(filters * min(2**level, WIDEST) for level in range(levels)), stem)


def _stretch(profile: Profile) -> float:
    """Width / height of the input."""
    median = profile.aspect.median
    if 1 / SQUARE_ENOUGH <= median <= SQUARE_ENOUGH:
        return 1.0
    return min(LONGEST, max(1 / LONGEST, median))


def _levels(sides: tuple[float, float], stem: int) -> int:
    """As many as leave the deepest one `DEEPEST_SIDE` pixels on its shorter side, at least 2."""
    return max(2, min(_MOST_LEVELS, int(math.log2(max(1.0, min(sides) / stem / DEEPEST_SIDE))) + 1))
