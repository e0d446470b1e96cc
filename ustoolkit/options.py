"""Options that several commands share, each added to a command's own."""

import argparse
import math
import re
from pathlib import Path
from typing import get_args

from ustoolkit.choices import DataSetFormat, ExportFormat

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SHORTEST, _LONGEST = 30, 1000 * 3600
_EXPORT_FORMATS = get_args(ExportFormat)


def output(added: argparse.ArgumentParser, text: str, required: bool = True) -> None:
    """Where results go; `text` says which."""
    added.add_argument("--out", type=Path, required=required, metavar="DIR", help=text)
    added.add_argument("--overwrite", action="store_true", help="replace what an earlier call left there")


def source(added: argparse.ArgumentParser) -> None:
    """A data set to read."""
    added.add_argument("path", type=Path, help="folder of images, a description (TOML), or records")
    added.add_argument("--format", choices=get_args(DataSetFormat), help="default: found by looking")
    added.add_argument("--patient", metavar="REGEX", help=r"patient's part of the file name, such as 'case(\d+)'")
    added.add_argument("--workers", type=count, default=0, metavar="N", help="processes (default: one a core)")


def crf(added: argparse.ArgumentParser, text: str) -> None:
    """Whether the dense CRF refines; `text` says what it means there."""
    added.add_argument("--crf", action=argparse.BooleanOptionalAction, help=text)
    added.add_argument(
        "--workers", type=count, default=0, metavar="N", help="the CRF's processes (default: one a core)"
    )


def segmenter(added: argparse.ArgumentParser, required: bool) -> None:
    """Who finds the lesions that a classifier looks at."""
    added.add_argument(
        "--segmenter",
        type=Path,
        nargs="+",
        required=required,
        default=[],
        metavar="RUN",
        help="of a classifier: find lesions by these, averaged; an image that some learned from, by the others",
    )


def tuning(added: argparse.ArgumentParser) -> None:
    """The run that is tuned, on its validation part."""
    added.add_argument("run_folder", type=Path, metavar="RUN", help="run folder; nothing of its test part is read")
    added.add_argument("--records", type=Path, metavar="DIR", help="where its records are now, if they were moved")


def export(added: argparse.ArgumentParser) -> None:
    """What is exported, and as what."""
    added.add_argument(
        "run_folder", type=Path, nargs="+", metavar="RUN", help="run folder; several that segment become one model"
    )
    segmenter(added, required=False)
    output(added, "folder to make, for all versions (default: RUN/export)", required=False)
    added.add_argument(
        "--format",
        nargs="+",
        default=["saved_model"],
        choices=_EXPORT_FORMATS,
        metavar="FORMAT",
        help=f"{', '.join(_EXPORT_FORMATS)} (default: saved_model)",
    )
    added.add_argument("--name", default="", metavar="NAME", help="under which it is served (default: the folder's)")
    added.add_argument("--model-version", type=count, default=1, metavar="N", help="folder within (default: 1)")
    added.add_argument(
        "--flips",
        choices=["off", "horizontal", "both"],
        default="",
        help="average over mirrored images too (default: as the run says)",
    )
    added.add_argument(
        "--records", type=Path, metavar="DIR", help="where its records are now: to measure files, and calibrate int8"
    )
    added.add_argument(
        "--largest-dice-loss",
        type=positive,
        default=0.005,
        metavar="DICE",
        help="by how much a file may fall behind the run on validation images (default: 0.005)",
    )
    added.add_argument("--allow-dice-loss", action="store_true", help="write it nevertheless, with a warning")


def positive(text: str) -> float:
    """A number above 0.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found '{text}'")
    return number


def count(text: str) -> int:
    """A whole number of 0 or more.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, found '{text}'")
    return int(text)


def duration(text: str) -> float:
    """Seconds of a time such as 90s, 30m or 2h.

    Raises:
        ArgumentTypeError: it is none, or too short or too long to train in.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh])", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 30m or 2h, found '{text}'")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if not _SHORTEST <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"expected a time from {_SHORTEST}s to {_LONGEST // 3600}h, found '{text}'")
    return seconds
