"""The command that runs a study."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ustoolkit.commands.console import Outcome, going_on_later, say_progress, warn
from ustoolkit.errors import RecipeError

if TYPE_CHECKING:
    from ustoolkit.studies.comparison import Study


def study(options: argparse.Namespace) -> Outcome:
    """Runs a study, or what is left of it."""
    from ustoolkit.recipe.validation import nearest
    from ustoolkit.studies import STUDIES
    from ustoolkit.studies.comparison import SECOND

    if options.study not in STUDIES:
        raise RecipeError(f"'{options.study}': there is no such study. {nearest(options.study, list(STUDIES))}")
    chosen = STUDIES[options.study]
    if chosen.pretraining and not options.pretraining_records:
        warn("without --pretraining-records the arms that are pre-trained are left out.")
    elif options.pretraining_records and not chosen.pretraining:
        warn("--pretraining-records is not used: nothing in this study is pre-trained.")
    if options.second_records and not any(arm.images == SECOND for arm in chosen.arms):
        warn("--second-records is not used: this study is of one set of images.")
    return run_asked(chosen, options)


def cross_validate(options: argparse.Namespace) -> Outcome:
    """Trains recipes once a fold and seed, and scores every image."""
    from ustoolkit.studies.cross_validation import check_groups, cross_validation, write_subgroups

    chosen = cross_validation(options.recipes, options.folds, options.preview)
    check_groups(options.records, options.by)
    result, text = run_asked(chosen, options)
    folders: dict[str, list[Path]] = {arm.name: [] for arm in chosen.arms}
    for name in result["runs"]:
        folders[name.rpartition("/")[0]].append(options.out / "runs" / name)
    lacking = {name.rpartition("/")[0] for name, run in result["runs"].items() if run["status"] != "finished"}
    complete = {arm: runs for arm, runs in folders.items() if arm not in lacking}
    page = write_subgroups(options.out, complete, options.by)
    return result, f"{page}\n{text}".strip()


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
    with going_on_later("study", f"Its tables so far are in {options.out}."):
        result = run_study(study, asked, say_progress)
    for name, run in result["runs"].items():
        if run["status"] == "failed":
            warn(f"{name} failed; its output is in {options.out / 'logs'}. The same command tries it again.")
    pages = result.pop("pages")
    return {"folder": str(options.out), **result}, "\n".join([*pages, f"tables, figures and runs in {options.out}"])
