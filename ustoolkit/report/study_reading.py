"""What the comparisons of a study say, in words: what each arm did against what it is compared with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ustoolkit.report.rendering import signed
from ustoolkit.report.study_figures import IntervalRow
from ustoolkit.report.study_files import StudyTable

BASELINE = "baseline"
_NEEDED = {"difference", "interval_low", "interval_high", "verdict"}
_NAMES = ("label", "change", "arm")  # columns that may name a line, the best first
# What verdicts mean, in the order in which they are told; another verdict is told by its name.
_MEANINGS = {
    "better": "Better than {}: the whole interval is above zero",
    "worse": "Worse than {}: the whole interval is below zero",
    "undecided": "Undecided: the interval holds zero, so that a difference from {} is neither shown nor ruled out",
    "unfinished": "Unfinished: folds are missing, so that the means are of other images",
    "": "Not compared",
}
_MOST_NAMED, _MOST_IN_SENTENCE = 6, 3


@dataclass(frozen=True)
class Compared:
    """An arm beside its baseline.

    Attributes:
        name: of the line in the table.
        difference, low, high: of the score, with the 95 % interval; NaN where there is none.
        verdict: as the table has it; '' where there are no scores.
    """

    name: str
    difference: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Reading:
    """What one table says.

    Attributes:
        sentence: all of it in one sentence.
        groups: by what is said of them, the lines with their differences in words, a line each.
        compared: the lines but the baselines.
    """

    sentence: str
    groups: dict[str, list[str]]
    compared: list[Compared]


def read_comparison(table: StudyTable) -> Reading | None:
    """Reads a table that sets arms beside a baseline.

    Args:
        table: of a study.
    Returns:
        None where it is no such table, or nothing in it is compared yet.
    """
    if not table.rows or not set(table.rows[0]) >= _NEEDED:
        return None
    baselines = [_name(row) for row in table.rows if row["verdict"] == BASELINE]
    compared = [_compared(row) for row in table.rows if row["verdict"] != BASELINE]
    if not any(math.isfinite(each.difference) for each in compared):
        return None
    against = f"‘{baselines[0]}’" if len(baselines) == 1 else "its baseline" if baselines else "what it stands against"
    verdicts = sorted({each.verdict for each in compared}, key=_rank)
    groups = {
        _MEANINGS.get(verdict, verdict.capitalize()).format(against): _in_words(compared, verdict)
        for verdict in verdicts
    }
    return Reading(_sentence(compared, against), groups, compared)


def interval_rows(reading: Reading) -> list[IntervalRow]:
    """The differences of a table as rows of a figure, without those that have none."""
    return [
        IntervalRow(each.name, each.difference, each.low, each.high)
        for each in reading.compared
        if math.isfinite(each.difference)
    ]


def difference_name(table: StudyTable) -> str:
    """Heading of the column that holds a table's differences, such as 'Dice against the first'."""
    for row, line in zip(table.rows, table.lines, strict=True):
        difference = _number(row["difference"])
        if math.isfinite(difference) and row["verdict"] != BASELINE:
            beginnings = {f"{difference:+.{digits}f}".replace("-", "−") for digits in (2, 3, 4)}
            for heading, cell in zip(table.header, line, strict=False):
                if cell.split(" ")[0] in beginnings:
                    return heading
    return "difference"


def _sentence(compared: Sequence[Compared], against: str) -> str:
    there = [each for each in compared if each.verdict]
    known = dict.fromkeys(["better", "worse", "undecided", *sorted(each.verdict for each in there)])
    parts = [_share([each for each in there if each.verdict == verdict], verdict) for verdict in known]
    count = f"{len(there)}" if len(there) == len(compared) else f"{len(there)} of {len(compared)}"
    return f"Of {count} beside {against}, {', '.join(parts[:-1])} and {parts[-1]}."


def _share(members: Sequence[Compared], verdict: str) -> str:
    """How many have a verdict, and where they are few and it is one, which."""
    told = f"{len(members) or 'none'} {'is' if len(members) < 2 else 'are'} {verdict}"
    if verdict == "undecided" or not 0 < len(members) <= _MOST_IN_SENTENCE:
        return told
    return f"{told} ({'; '.join(f'{each.name}, {signed(each.difference)}' for each in members)})"


def _in_words(compared: Sequence[Compared], verdict: str) -> list[str]:
    members = [each for each in compared if each.verdict == verdict]
    if not verdict:
        names = [each.name for each in members]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return [", ".join(names[:_MOST_NAMED]) + more]
    members.sort(key=lambda each: -abs(each.difference))
    return [_line(each) for each in members]


def _line(each: Compared) -> str:
    if math.isnan(each.low):
        return f"{each.name}: {signed(each.difference)}"
    return f"{each.name}: {signed(each.difference)} (95 % interval {signed(each.low)} to {signed(each.high)})"


def _compared(row: dict[str, str]) -> Compared:
    values = [_number(row[key]) for key in ("difference", "interval_low", "interval_high")]
    return Compared(_name(row), *values, row["verdict"])


def _name(row: dict[str, str]) -> str:
    name = next((row[key] for key in _NAMES if row.get(key)), "")
    apart = [row[key] for key in ("size", "unit") if row.get(key)]
    return ", ".join([name, *apart])


def _rank(verdict: str) -> tuple[int, str]:
    known = list(_MEANINGS)
    # What is not there comes last, verdicts of a study's own before it.
    return (known.index(verdict) if verdict in known[:-1] else len(known) + (not verdict), verdict)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
