"""Names below an axis and in a legend: how much room they take, and in how many lines they fit."""

import math
import textwrap
from collections.abc import Sequence
from functools import lru_cache

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from ustoolkit.report import figures

TEXT, SMALL = 8.5, 7.5  # points
LINE = 0.155  # inches from one line of text to the next
_SLOPE = math.radians(40)
_LONGEST_SLOPING = 44  # characters of a sloping line
_MOST_LEVEL_LINES, _MOST_WIDE_LINES, _WIDE_COLUMN = 3, 7, 1.1  # lines in a column, and in one this many inches wide


def name_positions(axes: Axes, names: Sequence[str], inches: float) -> None:
    """Writes a name below each of the positions 0, 1, …: level where all fit into their columns, else sloping.

    Args:
        names: any text.
        inches: the width of one column.
    """
    level = _level(names, inches)
    places = range(len(names))
    axes.set_xticks(places, level or sloping(names, inches), parse_math=False, color=figures.INK, fontsize=TEXT)
    if not level:
        for text in axes.get_xticklabels():
            text.set(rotation=math.degrees(_SLOPE), ha="right", va="top", rotation_mode="anchor", linespacing=1.05)


def names_inches(names: Sequence[str], inches: float) -> float:
    """The height that `name_positions` takes below the axis."""
    level = _level(names, inches)
    if level:
        return LINE * max(name.count("\n") + 1 for name in level)
    longest = max(text_inches(line) for name in sloping(names, inches) for line in name.split("\n"))
    return longest * math.sin(_SLOPE) + LINE


def fits_level(names: Sequence[str], inches: float) -> bool:
    """Whether every name fits into a column of this width on a few lines."""
    return bool(_level(names, inches))


def sloping(names: Sequence[str], inches: float) -> list[str]:
    """Names for sloping text, in as many lines as leave the neighbours free; the middle of a longer one goes."""
    lines = max(1, min(3, int(inches * math.sin(_SLOPE) / LINE)))
    short = []
    for name in names:
        width = min(_LONGEST_SLOPING, max(20, math.ceil(1.2 * len(name) / lines)))
        parts = textwrap.wrap(name, width) or [""]
        if len(parts) > lines:
            parts = textwrap.wrap(shortened(name, int(lines * width * 0.8) if lines > 1 else width), width)[:lines]
        short.append("\n".join(parts))
    return short


def shortened(name: str, longest: int) -> str:
    """A name of at most `longest` characters; arms often differ at their end, so it is the middle that goes."""
    return name if len(name) <= longest else f"{name[: longest // 2 - 1]}…{name[-(longest // 2) :]}"


def wrapped(text: str, characters: int) -> str:
    """Text in lines of at most so many characters."""
    return "\n".join(textwrap.wrap(text, characters)) or text


@lru_cache(maxsize=4096)  # names are measured at every width that is tried
def text_inches(text: str, points: float = TEXT) -> float:
    """How wide a line of text is drawn."""
    width, _, _ = TextToPath().get_text_width_height_descent(text, FontProperties(size=points), ismath=False)
    return width / 72


def _level(names: Sequence[str], inches: float) -> list[str]:
    """The names wrapped into a column's width, in as few lines as possible; empty where one of them does not fit."""
    found, most = [], _MOST_LEVEL_LINES if inches < _WIDE_COLUMN else _MOST_WIDE_LINES
    for name in names:
        for characters in range(max(len(name), 1), 0, -1):
            text = textwrap.fill(name, characters, break_long_words=False)
            if max(map(text_inches, text.split("\n"))) <= inches - 0.08:
                break
        else:
            return []
        if text.count("\n") >= most:
            return []
        found.append(text)
    return found
