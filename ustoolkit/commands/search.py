"""The command that searches hyper-parameters: tune."""

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from ustoolkit.commands.console import Outcome, going_on_later, say_progress, warn

if TYPE_CHECKING:
    from ustoolkit.studies.search_options import SearchOptions


def tune(options: argparse.Namespace) -> Outcome:
    """Searches settings of a recipe, or goes on with that."""
    from ustoolkit.studies.search import run_search
    from ustoolkit.studies.search_options import SearchOptions

    asked = SearchOptions(
        recipe=options.recipe,
        records=options.records,
        out=options.out,
        splits=options.splits,
        minutes=options.minutes,
        trials=options.trials,
        search=tuple(options.search),
        jobs=options.jobs,
        preview=options.preview,
        seed=options.seed,
        changes=tuple(options.set),
    )
    with going_on_later("search", f"Its trials so far are in {options.out}."):
        result = run_search(asked, say_progress)
    for row in result["trials"]:
        if row["state"] == "failed":
            warn(f"trial {row['number']} failed: {row['reason']}")
    return {"folder": str(options.out), **result}, _text(asked, result)


def _text(asked: "SearchOptions", result: dict[str, Any]) -> str:
    from ustoolkit.studies.search_results import BEST_RECIPE

    states = [row["state"] for row in result["trials"]]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states))]
    best, own, score = result["best"], result["own"], result["score"]
    compared = f"; the recipe as it is: {own:.3f}" if own is not None else ""
    lines = [
        f"{len(states)} trials in {result['seconds'] / 60:.1f} minutes: {', '.join(counts)}",
        f"best: trial {best['number']}, {score} {best['score']:.3f} in {best['epochs']} epochs{compared}",
        *(f"  {key} = {value}" for key, value in best["settings"].items()),
    ]
    if best["state"] != "finished":
        lines.append(f"No trial was finished; this one is {best['state']}. More --minutes go on with the search.")
    if result["importances"]:
        shares = ", ".join(f"{key} {share:.2f}" for key, share in result["importances"].items())
        finished = states.count("finished")
        lines.append(f"what the scores vary with (shares, rough with {finished} finished trials): {shares}")
    lines.append(
        "The score is optimistic, since the settings were chosen on the images that it is of; the test part was not "
        "used."
    )
    out = asked.out
    words = ["ustoolkit", "train", str(out / BEST_RECIPE), "--records", str(asked.records)]
    words += ["--splits", str(asked.splits)] if asked.splits else []
    if asked.preview:
        lines.append("These are settings for the preview; the recipe at its own size may want others.")
    lines.append(f"tables and trials in {out}; next: {shlex.join(words)} --out RUN")
    return "\n".join(lines)
