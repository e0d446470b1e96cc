"""What a study's folder holds, read back for its page: its tables as they are to be read, its runs, its figures."""

import base64
import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ustoolkit.errors import RunError
from ustoolkit.files import read_json

STUDY_FILE, RUNS_FILE = "study.json", "runs.csv"
_REMEDY = "Run the study again, which keeps the runs that are finished."
_FIGURE_FORMATS = (".svg", ".png")  # the first that is there is shown
_MOST_FIGURE_BYTES = 2_000_000  # a larger one would make the page heavy; it stays beside the page
_IMAGE_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
_HEADING = re.compile(r"#+ +(.*)")
_RULE = re.compile(r"\| *:?-+")


@dataclass(frozen=True)
class StudyTable:
    """A table of a study.

    Attributes:
        name: of its files.
        title: a heading.
        header: of the lines.
        lines: cells to read.
        notes: what a reader must know of it, a paragraph each.
        rows: the same lines to compute with, as the CSV file has them: text by column; none where they are not as many.
    """

    name: str
    title: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str]
    rows: Sequence[Mapping[str, str]]


def is_study_folder(folder: Path) -> bool:
    """Whether a folder is one that `ustoolkit study`, `cross-validate` or `audit-protocol` made."""
    return (folder / STUDY_FILE).is_file()


def read_study(folder: Path) -> dict[str, Any]:
    """What `study.json` says.

    Raises:
        RunError: it is missing or damaged.
    """
    content = read_json(folder / STUDY_FILE, RunError, _REMEDY)
    if not isinstance(content, dict) or not isinstance(content.get("study"), str):
        raise RunError(f"{folder / STUDY_FILE}: expected what a study is, found something else. {_REMEDY}")
    return content


def read_runs(folder: Path) -> list[dict[str, str]]:
    """The rows of `runs.csv`, text by column.

    Raises:
        RunError: it is missing or damaged.
    """
    rows = _read_csv(folder / RUNS_FILE)
    if any(not {"run", "arm", "status", "folder"} <= set(row) for row in rows):
        raise RunError(f"{folder / RUNS_FILE}: expected a table of runs, found something else. {_REMEDY}")
    return rows


def read_tables(folder: Path, order: Sequence[str] = ()) -> list[StudyTable]:
    """The tables of a study.

    Args:
        folder: of the study.
        order: names of the tables that come first; the others follow by name.
    Returns:
        those with a CSV file; one without a Markdown file beside it is shown as the CSV file has it.
    Raises:
        RunError: one is damaged.
    """
    names = [path.stem for path in sorted(folder.glob("*.csv")) if path.name != RUNS_FILE]
    places = {name: place for place, name in enumerate(order)}
    return [_table(folder, name) for name in sorted(names, key=lambda name: (places.get(name, len(places)), name))]


def figure_addresses(folder: Path) -> dict[str, str]:
    """The figures of a study as `data:` addresses, by name; those too large for a page are left out."""
    found: dict[str, str] = {}
    for ending in _FIGURE_FORMATS:
        for path in sorted(folder.glob(f"*{ending}")):
            if path.stem not in found and path.stat().st_size <= _MOST_FIGURE_BYTES:
                content = base64.b64encode(path.read_bytes()).decode()
                found[path.stem] = f"data:{_IMAGE_TYPES[ending]};base64,{content}"
    return dict(sorted(found.items()))


def _table(folder: Path, name: str) -> StudyTable:
    rows = _read_csv(folder / f"{name}.csv")
    try:
        text = (folder / f"{name}.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    title, header, lines, notes = _markdown(text)
    if not header:
        header = list(rows[0]) if rows else []
        lines, title = [list(row.values()) for row in rows], name.replace("-", " ").capitalize()
    return StudyTable(name, title, header, lines, notes, rows if len(rows) == len(lines) else [])


def _markdown(text: str) -> tuple[str, list[str], list[list[str]], list[str]]:
    """Title, header, lines and paragraphs of a page as a study writes it; empty where it has none."""
    title, table, notes = "", list[list[str]](), list[str]()
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            title = heading.group(1)
        elif line.startswith("| ") and not _RULE.match(line):
            table.append(line.removeprefix("| ").removesuffix(" |").split(" | "))
        elif line and not line.startswith("|"):
            notes.append(line)
    if not table:
        return title, [], [], notes
    header, *lines = table
    # Only a name, which comes first, may hold what parts the cells.
    surplus = [len(line) - len(header) for line in lines]
    lines = [
        [" | ".join(line[: more + 1]), *line[more + 1 :]] if more > 0 else line
        for line, more in zip(lines, surplus, strict=True)
    ]
    return title, header, lines, notes


def _read_csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file. {_REMEDY}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise RunError(f"{path}: expected a table, found something else ({problem}). {_REMEDY}") from None
    if any(None in row or None in row.values() for row in rows):
        raise RunError(f"{path}: expected as many cells in each row as in its header, found others. {_REMEDY}")
    return rows
