"""Figures as files of their own, for a results folder or a document."""

import pickle
import re
from importlib.resources import files as resources
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ustoolkit.errors import OutputError
from ustoolkit.files import write_bytes
from ustoolkit.report import figures

_RESOLUTION = 200  # pixels an inch
_FORMATS = {  # what a file would say of when and by which version it was written
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_COLOURED = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def write_figure(path: Path | str, figure: Figure) -> None:
    """Writes a figure as a file of its own, on white, in the colours that a page has in light mode.

    The figure itself stays as it is. The same figure gives the same bytes.

    Args:
        path: ends in .png (200 pixels an inch), .svg or .pdf; text of the latter two needs no font to be installed.
        figure: drawn with `figures.new_figure`.
    Raises:
        OutputError: another ending, or the folder cannot be written to.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise OutputError(
            f"{path}: expected a name that ends in one of {', '.join(_FORMATS)}, found '{path.suffix}'. "
            "Choose another name."
        )
    # A figure cannot be deep-copied.
    copy = pickle.loads(pickle.dumps(figure))
    _in_light_colours(copy)
    stream = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": path.stem}):
        copy.savefig(stream, format=suffix[1:], dpi=_RESOLUTION, facecolor="white", metadata=_FORMATS[suffix])
    write_bytes(path, stream.getvalue())


def _in_light_colours(figure: Figure) -> None:
    style = resources("ustoolkit.report").joinpath("report.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"(--[\w-]+):\s*(#[0-9a-f]+)", style[: style.index("}")]))
    colours = {code: light[name[4:-1]] for code, name in figures.PAGE_COLOURS.items()}
    figure.draw_without_rendering()  # which makes the ticks
    for artist in figure.findobj():
        for part in _COLOURED:
            setter, getter = getattr(artist, f"set_{part}", None), getattr(artist, f"get_{part}", None)
            if setter is None or getter is None:
                continue
            code = _code(getter())
            if code in colours:
                setter(colours[code])


def _code(colour: Any) -> str:
    try:
        return to_hex(colour)
    except (TypeError, ValueError):  # several colours at once, or none
        return ""
