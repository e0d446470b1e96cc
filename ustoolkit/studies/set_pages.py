"""A comparison of sets of runs to read: on a terminal, as files, and as a figure of its differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ustoolkit.files import new_folder
from ustoolkit.report.figure_files import write_figure
from ustoolkit.report.study_figures import IntervalRow, interval_figure
from ustoolkit.studies.run_sets import RunSet
from ustoolkit.studies.set_comparison import (
    SIGNIFICANT,
    format_comparison,
    format_subgroups,
    lower_is_better,
    metric_name,
)
from ustoolkit.studies.table_files import Row, write_table

COMPARISON_FILE, SUBGROUPS_FILE = "comparison", "subgroups"
_FIGURES = (("comparison", ""), ("comparison-pixels", "_pixel"), ("comparison-mm", "_mm"))


def on_what(sets: Mapping[str, RunSet], left_out: Mapping[str, int]) -> str:
    """Which sets are compared, and on which images.

    Args:
        sets: by name, on the images that all of them scored.
        left_out: by name, how many other images a set scored.
    """
    (first_name, first), *others = sets.items()
    patients = len(set(first.patient_ids.tolist()))
    text = (
        f"{', '.join(f'{name} ({_runs(each)})' for name, each in others)} against {first_name} ({_runs(first)}): "
        f"{len(first.source_ids):,} images of {patients:,} patients."
    )
    dropped = [f"{count:,} of {name}" for name, count in left_out.items() if count]
    return text + (
        f" Images that not every seed of every set scored are left out: {', '.join(dropped)}." * bool(dropped)
    )


def comparison_text(sets: Mapping[str, RunSet], left_out: Mapping[str, int], rows: Sequence[Row]) -> str:
    """The comparison for a terminal."""
    return f"{on_what(sets, left_out)}\n\n{text_table(*format_comparison(rows))}\n\n{about(rows, sets)}"


def about(rows: Sequence[Row], sets: Mapping[str, RunSet]) -> str:
    """What the columns mean.

    Args:
        rows: of `compare_sets` or `subgroup_rows`.
        sets: that they are of.
    """
    first = next(iter(sets))
    lower = [metric_name(metric) for metric in dict.fromkeys(row["metric"] for row in rows) if lower_is_better(metric)]
    one_seed = any(len(each.seeds) == 1 for each in sets.values())
    several = any(row["against"] for row in rows)
    lines = [f"Lower is better for {', '.join(lower)}."] if lower else []
    lines.append(
        "Intervals are of 95 % and draw patients and seeds (bootstrap)"
        + ("; where a set has one seed, nothing is said of what another would do." if one_seed else ".")
    )
    if several and any(row["metric"] == "roc_auc" for row in rows):
        lines.append(
            "ROC AUC is that of probabilities averaged over seeds, with DeLong's test and an interval over patients."
        )
        if any(len(each.evaluations) > len(each.seeds) for each in sets.values()):
            lines.append(
                "Of folds it is that of all their probabilities together, which is not the mean of the folds' areas."
            )
    if not any(row["metric"] == "roc_auc" for row in rows):
        lines.append(
            "Images: those on which the metric is defined in all seeds of both. Without an annotated lesion Dice and "
            "distances are undefined where none is predicted."
        )
    if several:
        tests = sum(row["p_value"] == row["p_value"] for row in rows)
        lines += [
            f"Differences are the set less {first}; better and worse are of the set.",
            "p is of Wilcoxon's signed-rank test of the patients' mean differences, seeds averaged; corrected is after "
            f"Holm over the {tests} test{'s' * (tests != 1)} of this table. Effect is the matched-pairs rank-biserial "
            f"correlation: above zero where the set is higher than {first} in more of the ranks. Neither says "
            "what other seeds would do.",
            "By interval: undecided where it holds zero, not corrected for the number of comparisons. By corrected p: "
            f"undecided from {SIGNIFICANT} on. The one is of means, the other of ranks, so that they may differ.",
        ]
    return "\n".join(lines)


def text_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Aligned columns for a terminal, the first to the left and the others to the right."""
    widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (header, *lines)
    )


def write_comparison(
    folder: Path,
    sets: Mapping[str, RunSet],
    left_out: Mapping[str, int],
    rows: Sequence[Row],
    groups: Sequence[Row],
    overwrite: bool = False,
) -> None:
    """Writes the tables as CSV, Markdown and LaTeX, and the differences as figures, one a unit.

    Args:
        folder: to make.
        sets, left_out: as for `on_what`.
        rows: of `compare_sets`.
        groups: of `subgroup_rows`; none where nothing divides the images.
        overwrite: whether an old comparison there may be replaced.
    Raises:
        OutputError: the folder is taken or cannot be written to.
    """
    images = on_what(sets, left_out)
    with new_folder(folder, overwrite, owned_by=f"{COMPARISON_FILE}.csv") as made:
        page = f"{images}\n\n{_paragraphs(about(rows, sets))}"
        title = f"Against {next(iter(sets))}"
        write_table(made / COMPARISON_FILE, title, rows, *format_comparison(rows), page)
        if groups:
            page = f"{images}\n\n{_paragraphs(about(groups, sets))}"
            write_table(made / SUBGROUPS_FILE, f"{title}, by group", groups, *format_subgroups(groups), page)
        for name, unit in _FIGURES:
            of_unit = [row for row in rows if _unit(row["metric"]) == unit]
            if of_unit:
                write_figure(made / f"{name}.png", _differences(of_unit, unit))


def _differences(rows: Sequence[Row], unit: str) -> Figure:
    several = len({row["set"] for row in rows}) > 1
    marks = [
        IntervalRow(
            _label(row),
            row["difference"],
            row["interval_low"],
            row["interval_high"],
            row["set"] if several else "",
        )
        for row in rows
    ]
    units = {"": "", "_pixel": ", pixels", "_mm": ", mm"}
    who = "each set" if several else rows[0]["set"]
    return interval_figure(marks, f"{who} less {rows[0]['against']}{units[unit]}, with 95 % interval", 0.0)


def _label(row: Row) -> str:
    name = metric_name(row["metric"]) + (", by patient" if row["unit"] == "patient" else "")
    return f"{name}, lower is better" if lower_is_better(row["metric"]) else name


def _unit(metric: str) -> str:
    return next((unit for _, unit in _FIGURES if unit and metric.endswith(unit)), "")


def _runs(each: RunSet) -> str:
    seeds, runs = len(each.seeds), len(each.evaluations)
    text = f"{seeds} seed{'s' * (seeds != 1)}"
    return text if runs == seeds else f"{text}, {runs} runs"


def _paragraphs(lines: str) -> str:
    return lines.replace("\n", "\n\n")
