"""Options that several commands share, each added to a command's own."""

import argparse
from pathlib import Path

_FORMATS = ["phantom", "labelme", "via", "coco", "nnunet", "dicom", "video", "table", "mask-folder"]


def output(added: argparse.ArgumentParser, text: str, required: bool = True) -> None:
    """Where results go; `text` says which."""
    added.add_argument("--out", type=Path, required=required, metavar="DIR", help=text)
    added.add_argument("--overwrite", action="store_true", help="replace what an earlier call left there")


def source(added: argparse.ArgumentParser) -> None:
    """A data set to read."""
    added.add_argument("path", type=Path, help="folder of images, a description (TOML), or records")
    added.add_argument("--format", choices=_FORMATS, help="default: found by looking")
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


def count(text: str) -> int:
    """A whole number of 0 or more.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, found '{text}'")
    return int(text)
