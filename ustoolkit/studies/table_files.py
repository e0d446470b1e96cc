"""Tables as files: rows to compute with as CSV, lines to read as Markdown and LaTeX."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ustoolkit.files import write_text

Row = dict[str, Any]
Lines = Sequence[Sequence[str]]


def write_table(path: Path, title: str, rows: Sequence[Row], header: Sequence[str], lines: Lines, about: str) -> str:
    """Writes a table as CSV, Markdown and LaTeX.

    Args:
        path: of the files, without ending.
        title: a heading.
        rows: to compute with, with all their digits; with the same keys.
        header, lines: to read.
        about: what a reader must know of it, Markdown.
    Returns:
        the Markdown.
    Raises:
        OutputError: the folder cannot be written to.
    """
    text = f"## {title}\n\n{markdown_table(header, lines)}\n\n{about}\n"
    write_csv(path.with_name(f"{path.name}.csv"), rows)
    write_text(path.with_name(f"{path.name}.md"), text)
    write_text(path.with_name(f"{path.name}.tex"), latex_table(header, lines, title))
    return text


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows with all their digits, an empty cell where there is no value.

    Raises:
        OutputError: the folder cannot be written to.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if _undefined(value) else value for key, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def format_number(value: float, digits: int, sign: str = "") -> str:
    """A number for a table, with a real minus; '–' for NaN.

    Args:
        value: to write.
        digits: after the point.
        sign: '+' to write that of positive numbers too.
    """
    return "–" if math.isnan(value) else f"{value:{sign}.{digits}f}".replace("-", "−")


def format_spread(row: Row, name: str, digits: int = 3) -> str:
    """A mean of a row with its deviation over runs, as 0.912 ± 0.004; '–' where it is undefined."""
    mean, deviation = (format_number(row[f"{name}_{key}"], digits) for key in ("mean", "deviation"))
    return mean if deviation == "–" else f"{mean} ± {deviation}"


def format_interval(row: Row) -> str:
    """A row's `difference` with its interval, as +0.012 (−0.003 to +0.027); '–' where it is undefined."""
    if math.isnan(row["difference"]):
        return "–"
    value, low, high = (format_number(row[key], 3, "+") for key in ("difference", "interval_low", "interval_high"))
    return value if math.isnan(row["interval_low"]) else f"{value} ({low} to {high})"


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    rule = ["---", *["---:" for _ in header[1:]]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def latex_table(header: Sequence[str], lines: Sequence[Sequence[str]], caption: str) -> str:
    """A LaTeX table for the package booktabs, its first column to the left and the others to the right.

    Args:
        header: names of the columns.
        lines: as many cells each.
        caption: plain text, as all cells are: what LaTeX would read as a command is escaped.
    """
    rows = [" & ".join(map(_latex, cells)) + r" \\" for cells in (header, *lines)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "–": "--",
    "×": r"$\times$",
    "<": "$<$",
    ">": "$>$",
}


def _latex(text: str) -> str:
    # The end of the line before would take a bracket or a star at the beginning of a cell for its own.
    guard = "{}" if text.startswith(("[", "*")) else ""
    return guard + "".join(_LATEX.get(character, character) for character in text)


def _undefined(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
