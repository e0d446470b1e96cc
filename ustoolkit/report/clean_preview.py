"""Before and after each step of cleaning, for a few images, as one picture."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ustoolkit.data.clean import clean_steps
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, OutputError
from ustoolkit.files import write_bytes
from ustoolkit.recipe.data_set import CleanSettings

MOST_IMAGES = 4
_CELL = 2.6  # inches
_DOTS_AN_INCH = 120


def write_preview(
    entries: Sequence[Entry],
    out: Path | str | None,
    settings: CleanSettings,
    count: int = MOST_IMAGES,
    overwrite: bool = False,
) -> tuple[Path, list[str]]:
    """Draws a row an image: as it came, then after each step.

    Args:
        entries: what a reader found; those shown are spread evenly over them.
        out: the picture's file: PNG, or JPEG for a name in .jpg; None for `clean-preview.png` here.
        settings: which steps, and how strong.
        count: images, at most.
        overwrite: whether a file that is there may be replaced.
    Returns:
        the file, and why images were left out.
    Raises:
        DataError: none of the images can be read.
        OutputError: the file is there already, or cannot be written.
    """
    out = Path(out or "clean-preview.png")
    if out.is_dir() or (out.exists() and not overwrite):
        raise OutputError(f"{out}: exists already. Choose another --out, or add --overwrite to replace a file.")
    samples, refused = _some(entries, count)
    if not samples:
        raise DataError("no image could be read; the first reasons:\n  " + "\n  ".join(refused[:5]))
    kind = "jpeg" if out.suffix.lower() in (".jpg", ".jpeg") else "png"
    write_bytes(out, draw_preview(samples, settings, kind))
    return out, refused


def draw_preview(samples: Sequence[Sample], settings: CleanSettings, kind: str = "png") -> bytes:
    """The picture's content.

    Args:
        samples: one a row.
        settings: which steps, and how strong.
        kind: 'png' or 'jpeg'.
    """
    rows = [list(clean_steps(sample, settings)) for sample in samples]
    shape = max(image.shape[0] / image.shape[1] for steps in rows for _, image in steps)
    figure = Figure(figsize=(_CELL * len(rows[0]), (_CELL * min(shape, 2) + 0.3) * len(rows)), layout="constrained")
    titles = {
        "": "as it came",
        "crop": "crop",
        "colours": "coloured marks painted over",
        "smooth": f"low-pass, {settings.smoothing_pixels:g} pixels",
        "bright": f"bright objects < {settings.smallest_bright_pixels} pixels",
        "open": f"opening, radius {settings.opening_radius_pixels}",
    }
    for row, (sample, steps) in enumerate(zip(samples, rows, strict=True)):
        for column, (step, image) in enumerate(steps):
            axes = figure.add_subplot(len(rows), len(steps), row * len(steps) + column + 1)
            axes.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255)
            axes.set_axis_off()
            axes.set_title(titles[step] if step else _shortened(sample.source_id), fontsize=9)
    stream = BytesIO()
    FigureCanvasAgg(figure).print_figure(stream, format=kind, dpi=_DOTS_AN_INCH)
    return stream.getvalue()


def _some(entries: Sequence[Entry], count: int) -> tuple[list[Sample], list[str]]:
    """Readable samples spread evenly over a data set, and why others on the way were none."""
    spread = np.linspace(0, len(entries) - 1, min(count, len(entries))).round().astype(int)
    order = [*spread, *(number for number in range(len(entries)) if number not in set(spread))]
    samples: list[Sample] = []
    refused: list[str] = []
    for number in order:
        if len(samples) == count or len(refused) > 5 * count:
            break
        try:
            samples.append(entries[number].load())
        except DataError as problem:
            refused.append(str(problem))
    return samples, refused


def _shortened(name: str, length: int = 32) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"
