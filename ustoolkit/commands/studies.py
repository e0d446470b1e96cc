"""The command that runs a study."""

import argparse
import shutil
import sys

from ustoolkit.commands.console import Outcome, warn
from ustoolkit.errors import RecipeError


def study(options: argparse.Namespace) -> Outcome:
    """Runs a study, or what is left of it."""
    from ustoolkit.recipe.toml import nearest
    from ustoolkit.studies import STUDIES
    from ustoolkit.studies.plan import StudyOptions
    from ustoolkit.studies.runner import run_study

    if options.study not in STUDIES:
        raise RecipeError(f"'{options.study}': there is no such study. {nearest(options.study, list(STUDIES))}")
    if STUDIES[options.study].pretraining and not options.pretraining_records:
        warn("without --pretraining-records the arms that are pre-trained are left out.")
    chosen = StudyOptions(
        records=options.records,
        out=options.out,
        splits=options.splits,
        seeds=options.seeds,
        preview=options.preview,
        changes=tuple(options.set),
        only=tuple(options.only),
        jobs=options.jobs,
        overwrite=options.overwrite,
        pretraining_records=options.pretraining_records,
    )
    try:
        result = run_study(STUDIES[options.study], chosen, _say)
    except KeyboardInterrupt:
        warn(f"the study stopped; the same command goes on with it. Its tables so far are in {options.out}.")
        raise
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)
    for name, run in result["runs"].items():
        if run["status"] == "failed":
            warn(f"{name} failed; its output is in {options.out / 'logs'}. The same command tries it again.")
    pages = [(options.out / f"{name}.md").read_text(encoding="utf-8") for name in result["tables"]]
    return {"folder": str(options.out), **result}, "\n".join([*pages, f"tables and runs in {options.out}"])


def _say(line: str, changed: bool) -> None:
    """On a terminal one line that is kept up to date, elsewhere a line where a run began or ended."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
    elif changed:
        print(f"ustoolkit: {line}", file=sys.stderr, flush=True)
