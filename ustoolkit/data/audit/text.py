"""An audit as text for a terminal of 100 columns."""

import textwrap
from collections.abc import Sequence
from typing import Any

from ustoolkit.data.audit.problems import SEVERITIES

COLUMNS = 100
_LISTED = 5
_MOST_ROWS = 12  # labels or devices in the table
_MOST_REFUSED = 20
_INDENT = " " * 9
_HEADER = ("images", "patients", "masks", "size", "mm/pixel", "grey", "lesion, % of image", "lesion, mm")


def format_audit(result: dict[str, Any]) -> str:
    """The audit as text for a terminal: what there is as a table, then what is wrong with it, the worst first."""
    lines = [_wrapped(f"{name:<9}", text) for name, text in _facts(result)]
    return "\n".join([*lines, "", *_table(result), "", *_problem_lines(result)])


def summary_line(result: dict[str, Any]) -> str:
    """How many kinds of problems of which severity there are, and how many refused images."""
    counts = {severity: sum(item["severity"] == severity for item in result["problems"]) for severity in SEVERITIES}
    told = [f"{count} kind{_plural(count)} of {severity}" for severity, count in counts.items() if count]
    if refused := len(result["refused"]):
        told.append(f"{refused:,} refused image{_plural(refused)}")
    return ", ".join(told) or "no problems found"


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many there are in all."""
    more = f", … ({len(names)} in all)" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def cases_text(problem: dict[str, Any]) -> str:
    """The first few cases of a problem, each with what was found, and how many there are in all."""
    cases = problem["details"]
    several = any(len(case["source_ids"]) > 1 for case in cases)
    brief = problem["severity"] == "notice" and len(cases) > _LISTED
    separator = "; " if several else ", "
    shown = [_case_text(case, brief) for case in cases[:_LISTED]]
    more = f"{separator}… ({len(cases):,} in all)" if len(cases) > _LISTED else ""
    return separator.join(shown) + more


def _case_text(case: dict[str, Any], brief: bool) -> str:
    names = ", ".join(case["source_ids"])
    if brief or not case["text"]:
        return names
    return case["text"] if len(case["source_ids"]) > 1 else f"{names} ({case['text']})"


def _facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    labels = ", ".join(f"{name} {count:,}" for name, count in result["by_label"].items())
    masks = ", ".join(f"{name} in {found['images']:,}" for name, found in result["classes"].items())
    masks = f"{result['annotated']:,}: {masks}" if result["annotated"] else "none"
    colour = f", {result['colour_images']:,} in colour" if result["colour_images"] else ""
    facts = [
        ("format", result.get("format", "")),
        ("images", f"{result['images']:,} of {result['patients']:,} patients{colour}"),
        ("labels", labels),
        ("masks", masks),
        ("splits", "; ".join(f"{name}: {', '.join(parts)}" for name, parts in result["splits"].items())),
    ]
    return [(name, text) for name, text in facts if text]


def _table(result: dict[str, Any]) -> list[str]:
    rows: list[tuple[str, dict[str, Any] | None]] = [("all", result)]
    for key, groups in result["by"].items():
        if len(groups) == 1 and key == "label" and "(none)" in groups:
            continue
        rows.append((key, None))
        rows += [(f"  {name}", found) for name, found in list(groups.items())[:_MOST_ROWS]]
        if len(groups) > _MOST_ROWS:
            rows.append((f"  and {len(groups) - _MOST_ROWS} more", None))
    cells = [("", *_HEADER), *((name, *(_cells(found) if found else ())) for name, found in rows)]
    used = [column for column in range(1, 9) if any(row[column] != "–" for row in cells[1:] if len(row) > 1)]
    widths = {column: max(len(row[column]) for row in cells if len(row) > 1) for column in used}
    space = COLUMNS - sum(width + 2 for width in widths.values())
    lines = []
    for row in cells:
        name = row[0] if len(row[0]) <= space else row[0][: space - 1] + "…"
        first = min(space, max(len(cell[0]) for cell in cells))
        columns = (f"  {row[column]:>{widths[column]}}" for column in used if len(row) > 1)
        lines.append(f"{name:<{first}}{''.join(columns)}".rstrip())
    return lines


def _cells(found: dict[str, Any]) -> tuple[str, ...]:
    height, width = found["height"], found["width"]
    return (
        f"{found['images']:,}",
        f"{found['patients']:,}",
        f"{found['annotated']:,}",
        f"{width['median']:.0f} × {height['median']:.0f}",
        _middle(found["spacing_row_mm"], "{:.3g}"),
        _middle(found["mean_intensity"], "{:.0f}"),
        _range(found["lesion_fraction"], 100),
        _range(found["lesion_diameter_mm"], 1),
    )


def _middle(spread: dict[str, float], form: str) -> str:
    return form.format(spread["median"]) if spread else "–"


def _range(spread: dict[str, float], factor: float) -> str:
    if not spread:
        return "–"
    low, median, high = (f"{factor * spread[key]:.3g}" for key in ("smallest", "median", "largest"))
    return f"{median} ({low}–{high})"


def _problem_lines(result: dict[str, Any]) -> list[str]:
    lines = [summary_line(result)]
    refused = [item["reason"] for item in result["refused"]]
    lines += [f"error    refused: {reason}" for reason in refused[:_MOST_REFUSED]]  # paths stay in one piece
    if len(refused) > _MOST_REFUSED:
        lines.append(f"error    refused: {len(refused) - _MOST_REFUSED:,} more; --json lists them all")
    for problem in result["problems"]:
        text = f"{problem['kind']}: {cases_text(problem)}. {problem['remedy']}"
        lines.append(_wrapped(f"{problem['severity']:<9}", text))
    return lines


def _wrapped(start: str, text: str) -> str:
    return textwrap.fill(
        text, COLUMNS, initial_indent=start, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
    )


def _plural(count: int) -> str:
    return "" if count == 1 else "s"
