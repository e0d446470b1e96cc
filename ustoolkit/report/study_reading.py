"""What the comparisons of a study say, in words: what each arm did against what it is compared with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ustoolkit.report.rendering import signed
from ustoolkit.report.study_figures import IntervalRow
from ustoolkit.report.study_files import StudyTable

BASELINE = "baseline"
_DIFFERENCE = ("difference", "interval_low", "interval_high")
_MAIN = "main"  # column that names the score which a verdict is on, in tables of several scores
_NAMES = ("label", "change", "arm")  # columns that may name a line, the best first
# What verdicts mean, in the order in which they are told; another verdict is told by its name.
_MEANINGS = {
    "better": "Better than {}: the whole interval is above zero",
    "worse": "Worse than {}: the whole interval is below zero",
    "undecided": "Undecided: the interval holds zero, so that a difference from {} is neither shown nor ruled out",
    "unfinished": "Unfinished: folds are missing, so that the means are of other images",
    "inflated": "Inflated against {}: the whole interval is above zero, so that this way of dividing flatters",
    "": "Not compared",
}
_MAIN_SCORES = ("Dice", "ROC AUC", "AUC by image")  # headings, of which a table has one
_USUAL = {"better", "worse", "undecided", "unfinished"}
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
    columns = set(table.rows[0]) if table.rows else set()
    if "verdict" not in columns or not (columns >= set(_DIFFERENCE) or _MAIN in columns):
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
    beside = "their baselines" if len(baselines) > 1 else against
    return Reading(_sentence(compared, beside), groups, compared)


def main_score(tables: Sequence[StudyTable]) -> str:
    """The score of the first line that has one, as 'unet: Dice 0.840 ± 0.012'; '' where none has."""
    for table in tables:
        heading = next((heading for heading in table.header if heading in _MAIN_SCORES), "")
        for line in table.lines if heading else ():
            cell = dict(zip(table.header, line, strict=False)).get(heading, "–")
            if cell != "–":
                return f"{line[0]}: {heading} {cell}"
    return ""


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
        difference = _values(row)[0]
        if math.isfinite(difference) and row["verdict"] != BASELINE:
            beginnings = {f"{difference:+.{digits}f}".replace("-", "−") for digits in (2, 3, 4)}
            for heading, cell in zip(table.header, line, strict=False):
                if cell.split(" ")[0] in beginnings:
                    return heading
    return "difference"


def _sentence(compared: Sequence[Compared], against: str) -> str:
    there = [each for each in compared if each.verdict]
    given = {each.verdict for each in there}
    # A study with verdicts of its own does not say what is better.
    usual = ["better", "worse", "undecided"] if given <= _USUAL else []
    told_of = dict.fromkeys([*usual, *sorted(given)])
    parts = [_share([each for each in there if each.verdict == verdict], verdict) for verdict in told_of]
    told = " and ".join(filter(None, [", ".join(parts[:-1]), f"{parts[-1]}."]))
    if len(there) == len(compared):
        return f"Of {len(there)} compared with {against}, {told}"
    have = "has" if len(there) == 1 else "have"
    return f"Of {len(compared)} to compare with {against}, {len(there)} {have} scores: {told}"


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


def _compared(row: Mapping[str, str]) -> Compared:
    return Compared(_name(row), *_values(row), row["verdict"])


def _values(row: Mapping[str, str]) -> tuple[float, float, float]:
    """The difference with the ends of its interval, NaN where the row has none."""
    main = row.get(_MAIN)
    keys = [f"{main}_above{ending}" for ending in ("", "_low", "_high")] if main else _DIFFERENCE
    difference, low, high = (_number(row.get(key, "")) for key in keys)
    return difference, low, high


def _name(row: Mapping[str, str]) -> str:
    name = next((row[key] for key in _NAMES if row.get(key)), "")
    apart = [row[key] for key in ("size", "unit", "protocol") if row.get(key)]
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
