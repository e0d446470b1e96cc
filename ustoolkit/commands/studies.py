"""The command that runs a study."""

import argparse
import shutil
import sys
from typing import TYPE_CHECKING

from ustoolkit.commands.console import Outcome, warn
from ustoolkit.errors import RecipeError

if TYPE_CHECKING:
    from ustoolkit.studies.comparison import Study


def study(options: argparse.Namespace) -> Outcome:
    """Runs a study, or what is left of it."""
    from ustoolkit.recipe.toml import nearest
    from ustoolkit.studies import STUDIES

    if options.study not in STUDIES:
        raise RecipeError(f"'{options.study}': there is no such study. {nearest(options.study, list(STUDIES))}")
    chosen = STUDIES[options.study]
    if chosen.pretraining and not options.pretraining_records:
        warn("without --pretraining-records the arms that are pre-trained are left out.")
    return run_asked(chosen, options)


def cross_validate(options: argparse.Namespace) -> Outcome:
    """Trains recipes once a fold and seed, and scores every image."""
    from ustoolkit.studies.cross_validation import cross_validation, write_subgroups

    chosen = cross_validation(options.recipes, options.folds, options.preview)
    result, text = run_asked(chosen, options)
    finished = {name.rpartition("/")[0] for name, run in result["runs"].items() if run["status"] == "finished"}
    page = write_subgroups(options.out, [arm.name for arm in chosen.arms if arm.name in finished], options.by)
    return result, f"{page}\n{text}"


def run_asked(study: "Study", options: argparse.Namespace) -> Outcome:
    """Runs a study that a command chose, as its options ask, and says what failed."""
    from ustoolkit.studies.asked import StudyOptions
    from ustoolkit.studies.runner import run_study

    given = {name: getattr(options, name, None) for name in ("splits", "pretraining_records", "second_records")}
    seeds = getattr(options, "seeds", None)
    asked = StudyOptions(
        records=options.records,
        out=options.out,
        seeds=study.seeds if seeds is None else seeds,
        preview=options.preview,
        changes=tuple(options.set),
        only=tuple(getattr(options, "only", ())),
        jobs=options.jobs,
        overwrite=options.overwrite,
        folds=getattr(options, "folds", None),
        **given,
    )
    try:
        result = run_study(study, asked, _say)
    except KeyboardInterrupt:
        warn(f"the study stopped; the same command goes on with it. Its tables so far are in {options.out}.")
        raise
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)
    for name, run in result["runs"].items():
        if run["status"] == "failed":
            warn(f"{name} failed; its output is in {options.out / 'logs'}. The same command tries it again.")
    pages = result.pop("pages")
    return {"folder": str(options.out), **result}, "\n".join([*pages, f"tables, figures and runs in {options.out}"])


def _say(line: str, changed: bool) -> None:
    """On a terminal one line that is kept up to date, elsewhere a line where a run began or ended."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
    elif changed:
        print(f"ustoolkit: {line}", file=sys.stderr, flush=True)
