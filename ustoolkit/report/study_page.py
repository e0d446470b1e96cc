"""A study as one page: what was asked, what its tables say, figures, its runs with what is missing, and settings."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ustoolkit.errors import RunError, UstoolkitError
from ustoolkit.files import write_text
from ustoolkit.report import figures
from ustoolkit.report.rendering import render_page
from ustoolkit.report.study_figures import interval_figure
from ustoolkit.report.study_files import StudyTable, figure_addresses, read_runs, read_study, read_tables
from ustoolkit.report.study_reading import Reading, difference_name, interval_rows, main_score, read_comparison
from ustoolkit.run import Run

REPORT_FILE = "report.html"
FINISHED = "finished"
_LEADING_NUMBER = re.compile(r"[+−-]?\d[\d,]*\.?\d*(e[+-]?\d+)?")
_NO_VALUE = ("", "–", "missing")
_UNSAID: dict[str, Any] = {"description": "", "preview": False, "folds": 0, "seeds": "–", "table_order": ()}
"""What a study that is older does not say."""


def write_study_page(folder: Path | str) -> Path:
    """Writes `report.html` into a study's folder.

    The page needs nothing beside it but what it links to: the folders of its runs.

    Args:
        folder: that `ustoolkit study`, `cross-validate` or `audit-protocol` made, with a finished run or more.
    Returns:
        the page's path.
    Raises:
        RunError: the folder is no study's or is damaged, or no run is finished.
        OutputError: the page cannot be written.
    """
    folder = Path(folder)
    state, runs = _UNSAID | read_study(folder), read_runs(folder)
    finished = [row for row in runs if row["status"] == FINISHED]
    if not finished:
        raise RunError(
            f"{folder}: expected a study with a finished run, found none of {len(runs)} finished. Run the study on, "
            "with the command that began it."
        )
    tables = [table for table in read_tables(folder, state["table_order"]) if table.lines]
    readings = {table.name: read_comparison(table) for table in tables}
    if not state["table_order"]:
        tables.sort(key=lambda table: readings[table.name] is None)
    drawn = figure_addresses(folder)
    page = render_page(
        "study.html",
        name=folder.resolve().name,
        state=state,
        counts=Counter(row["status"] for row in runs),
        total=len(runs),
        lede=next(((table.title, found.sentence) for table in tables if (found := readings[table.name])), None),
        main_score=main_score(tables),
        tables=[
            _shown(number, table, readings[table.name], drawn, _said_before(tables[: number - 1]))
            for number, table in enumerate(tables, start=1)
        ],
        drawn=[(name, address) for name, address in drawn.items() if name not in readings],
        runs=[_run_row(folder, row) for row in runs],
        missing=[row for row in runs if row["status"] != FINISHED],
        arms=_arms(runs),
        asked=_asked(state),
        made=_made(folder, finished),
        minutes=sum(_number(row.get("minutes", "")) or 0.0 for row in runs),
    )
    path = folder / REPORT_FILE
    write_text(path, page)
    return path


def _said_before(tables: Sequence[StudyTable]) -> set[str]:
    return {paragraph for table in tables for paragraph in table.notes}


def _shown(
    number: int, table: StudyTable, reading: Reading | None, drawn: Mapping[str, str], said: set[str]
) -> dict[str, Any]:
    """A table for the page; where the study drew no figure of its differences, the page has one.

    Args:
        number: of the table, from 1.
        table: as it was read.
        reading: what it says, or None.
        drawn: addresses of the study's figures by name.
        said: paragraphs that stand below tables before it, and are not repeated.
    """
    plot = ""
    if reading and table.name not in drawn:
        axis = f"{difference_name(table)}, with 95 % interval"
        figure = interval_figure(interval_rows(reading), axis, reference=0.0)
        plot = figures.to_svg(figure, f"differences-{number}", f"Differences of ‘{table.title}’ with their intervals")
    columns = list(zip(*table.lines, strict=False))
    return {
        "id": f"table-{number}",
        "name": table.name,
        "title": table.title,
        "header": [(heading, _kind(cells)) for heading, cells in zip(table.header, columns, strict=False)],
        "lines": [[(cell, _sort_value(cell)) for cell in line] for line in table.lines],
        "verdict": table.header.index("Verdict") if "Verdict" in table.header else -1,
        "notes": [paragraph for paragraph in table.notes if paragraph not in said],
        "more_notes": any(paragraph in said for paragraph in table.notes),
        "reading": reading,
        "plot": plot,
        "figure": drawn.get(table.name, ""),
    }


def _run_row(folder: Path, row: Mapping[str, str]) -> dict[str, Any]:
    """A run for the page, with the addresses of its folder and page as far as they are there."""
    there = (folder / row["folder"]).is_dir() and not Path(row["folder"]).is_absolute()
    address = f"./{quote(row['folder'])}"  # so that no name is taken for a scheme
    page = f"{address}/{REPORT_FILE}" if there and (folder / row["folder"] / REPORT_FILE).is_file() else ""
    return {
        **row,
        "address": f"{address}/" if there else "",
        "page": page,
        "numbers": [(_number(row.get(key, "")), digits) for key, digits in _RUN_NUMBERS.items()],
    }


_RUN_NUMBERS = {"validation": 3, "best_epoch": 0, "epochs": 0, "minutes": 1}


def _arms(runs: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """What each arm is trained with, without what tells its runs apart."""
    found: dict[str, dict[str, Any]] = {}
    for row in runs:
        settings = [word for word in row.get("settings", "").split() if not word.startswith("training.seed=")]
        arm = found.setdefault(row["arm"], {"name": row["arm"], "recipe": "", "settings": "", "runs": 0, "finished": 0})
        arm["runs"] += 1
        arm["finished"] += row["status"] == FINISHED
        arm["recipe"] = arm["recipe"] or row.get("recipe", "")
        arm["settings"] = arm["settings"] or " ".join(settings)
    return list(found.values())


def _asked(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of what the study was asked, those that it says."""
    folds, seeds = state.get("folds"), state.get("seeds")
    known = [
        ("Study", state["study"]),
        ("Records", state.get("records")),
        ("Split", state.get("splits") or ("" if folds else "splits.json of the records")),
        ("Folds", f"{folds}, by patient" if folds else ""),
        ("Seeds", seeds),
        ("Records of pre-training", state.get("pretraining_records")),
        ("Other images", state.get("second_records")),
        ("Settings for every run", "  ".join(map(str, state.get("set") or ()))),
        ("Scale", "previews: small images, short training" if state.get("preview") else "full size"),
        ("Runs at a time", _at_a_time(state)),
        ("ustoolkit", state.get("ustoolkit")),
    ]
    return [(name, str(value)) for name, value in known if value]


def _at_a_time(state: Mapping[str, Any]) -> str:
    if "jobs" not in state:
        return ""
    threads = state.get("threads", 1)
    return f"{state['jobs']}, of {threads} thread{'' if threads == 1 else 's'} each"


def _made(folder: Path, finished: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """With what the finished runs were made: one value where all agree, all of them where they do not."""
    found: dict[str, dict[str, None]] = {}
    for row in finished:
        for name, value in _state_of_run(folder / row["folder"]):
            found.setdefault(name, {})[value] = None
    return [(name, ", ".join(values) + " (runs differ)" * (len(values) > 1)) for name, values in found.items()]


def _state_of_run(folder: Path) -> list[tuple[str, str]]:
    try:
        state = Run(folder).state
    except UstoolkitError:  # a fusion, or a run that was removed since; its scores are in the tables
        return []
    machine = state.get("machine", {})
    known = [
        ("Git revision", state.get("git_revision")),
        ("Machine", machine.get("platform")),
        ("Processor cores", machine.get("cores")),
        *sorted(state.get("versions", {}).items()),
    ]
    return [(name, str(value)) for name, value in known if value]


def _kind(cells: Sequence[str]) -> str:
    """What a column holds: 'number', 'text', or '' where it has no value."""
    values = [cell for cell in cells if cell not in _NO_VALUE]
    return "" if not values else "number" if all(_LEADING_NUMBER.match(cell) for cell in values) else "text"


def _sort_value(cell: str) -> str:
    """The number that a cell begins with, as 0.912 of '0.912 ± 0.004'; '' where it has none."""
    found = _LEADING_NUMBER.match(cell)
    return found.group().replace(",", "").replace("−", "-").removeprefix("+") if found else ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
