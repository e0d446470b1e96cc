"""CSV tables as text values by column, with the row numbers that a spreadsheet shows."""

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ustoolkit.errors import DataError

_SAVE_AS = "Save it again as 'CSV UTF-8 (comma delimited)', as Excel calls it."
_UNKNOWN = frozenset({"", "nan", "none", "null", "n/a", "na", "#n/a"})  # how programs write that there is no value


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        number: as a spreadsheet counts, the header being 1; blank lines count.
        values: by column.
    """

    number: int
    values: dict[str, str]


@dataclass(frozen=True, eq=False)
class Table:
    """A CSV file.

    Attributes:
        path: the file.
        columns: its header.
        rows: those that are not blank.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, name: str, spellings: tuple[str, ...] = ()) -> str:
        """The column of a name, or where that is '' the one of the first spelling that there is, else ''.

        Raises:
            DataError: a name was given, and there is no such column.
        """
        if name:
            if name not in self.columns:
                raise DataError(f"{self.path}: no column '{name}'; there are {', '.join(self.columns)}.")
            return name
        by_spelling = {column.lower().replace(" ", "_"): column for column in self.columns}
        return next((by_spelling[spelling] for spelling in spellings if spelling in by_spelling), "")


def known(value: str) -> str:
    """A value without spaces around it; '' for what programs write where there is none, such as 'nan'."""
    stripped = value.strip()
    return "" if stripped.lower() in _UNKNOWN else stripped


def tables_in(root: Path) -> list[Path]:
    """CSV files that lie in a folder itself, sorted."""
    return [path for path in sorted(root.glob("*.csv")) if path.is_file()]


def read_table(path: Path) -> Table:
    """Reads a CSV file; comma, semicolon or tab, whichever its header holds most of.

    Raises:
        DataError: missing, not in UTF-8, no CSV, two columns of one name, or a row of another number of columns.
    """
    text = _text(path)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as problem:
        raise DataError(f"{path}: expected a CSV table ({problem}). Save it again as CSV.") from None
    header = [name.strip() for name in lines[0]] if lines else []
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise DataError(f"{path}: several columns are called '{twice[0]}'. Rename them, or leave all but one out.")
    blank = [place for place, name in enumerate(header) if not name]
    # The first column without a name holds the row numbers that pandas writes; later ones are stray separators.
    header = [name or ("unnamed" if place == blank[0] else f"unnamed {place + 1}") for place, name in enumerate(header)]
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not any(value.strip() for value in line):
            continue
        if len(line) != len(header):
            raise DataError(
                f"{path}, row {number}: expected {len(header)} columns as in the header, found {len(line)}. "
                "Quote values that hold the separator."
            )
        rows.append(Row(number, dict(zip(header, line, strict=True))))
    unused = {header[place] for place in blank if not any(row.values[header[place]].strip() for row in rows)}
    columns = tuple(name for name in header if name not in unused)
    return Table(path, columns, tuple(Row(row.number, {name: row.values[name] for name in columns}) for row in rows))


def columns_of_damaged(path: Path) -> list[str]:
    """The header of a file that `read_table` refuses, as far as it can be told."""
    try:
        with path.open("rb") as file:
            line = file.readline(100_000).replace(b"\0", b"").decode("latin-1")
    except OSError:
        return []
    return [name.strip(' "\r\nï»¿ÿþ') for name in line.split(max(",;\t", key=line.count))]


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{path}: expected a CSV table in UTF-8, found UTF-16. {_SAVE_AS}")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such table. Check [table] file in the data set's description.") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(
            f"{path}: expected a CSV table in UTF-8, found something else ({problem}). {_SAVE_AS}"
        ) from None
