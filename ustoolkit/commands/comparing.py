"""The command that tests one method against another, by what their runs scored."""

import argparse
from typing import TYPE_CHECKING, Any

from ustoolkit.commands.console import Outcome, warn
from ustoolkit.files import check_replaceable

if TYPE_CHECKING:
    from ustoolkit.studies.run_sets import RunSet


def compare(options: argparse.Namespace) -> Outcome:
    """Compares sets of runs with the first of them, on the same images."""
    from ustoolkit.studies.run_sets import read_run_set, set_names, shared_images
    from ustoolkit.studies.set_comparison import compare_sets, format_subgroups, subgroup_rows
    from ustoolkit.studies.set_pages import COMPARISON_FILE, comparison_text, text_table, write_comparison

    if options.out:
        check_replaceable(options.out, options.overwrite, owned_by=f"{COMPARISON_FILE}.csv")
    folders = [options.first, *options.others]
    names = set_names(folders)
    read = {name: read_run_set(path, options.split, options.records) for name, path in zip(names, folders, strict=True)}
    sets, left_out = shared_images(read)
    _warn_of_unknown(sets)
    _warn_of_runs(sets)
    rows = compare_sets(sets, options.metrics)
    groups = subgroup_rows(sets, options.by, options.metrics)
    result: dict[str, Any] = {
        "sets": {name: _about(each, left_out[name]) for name, each in sets.items()},
        "comparison": rows,
        "subgroups": groups,
    }
    if len(sets) == 2:
        result |= {f"by_{row['unit']}": row for row in rows if row["metric"] == "roc_auc"}
    text = comparison_text(sets, left_out, rows)
    if groups:
        text += f"\n\n{text_table(*format_subgroups(groups))}"
    if options.out:
        write_comparison(options.out, sets, left_out, rows, groups, options.overwrite)
        result["folder"] = str(options.out)
        text += f"\n\ntables and figures in {options.out}"
    return result, text


def _about(each: "RunSet", left_out: int) -> dict[str, Any]:
    return {
        "folder": str(each.folder),
        "evaluations": [str(path) for path in each.evaluations],
        "seeds": list(each.seeds),
        "images": len(each.source_ids),
        "left_out": left_out,
    }


def _warn_of_runs(sets: dict[str, "RunSet"]) -> None:
    """Says what is known against the runs that were scored, such as leaks."""
    from ustoolkit.errors import UstoolkitError
    from ustoolkit.run import Run

    for name, each in sets.items():
        said: dict[str, None] = {}
        for folder in each.evaluations:
            try:
                state = Run(folder.parent.parent).state
            except UstoolkitError:  # an evaluation that was moved, or of a fusion
                continue
            said |= dict.fromkeys(state.get("warnings", ()))
            if state.get("status") != "finished":
                said[f"{folder.parent.parent} is still being trained"] = None
        for warning in said:
            warn(f"{name}: {warning}")


def _warn_of_unknown(sets: dict[str, "RunSet"]) -> None:
    """Says where nothing but labels can divide the images."""
    first_name, first = next(iter(sets.items()))
    if not first.checksums:
        warn(
            f"the records that {first_name} was scored on were not found where they lay, so that images are grouped by "
            "label alone. Say where they are, with --records DIR."
        )
