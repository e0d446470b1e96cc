"""The command that trains: a recipe or one that is chosen, from the beginning or where it was interrupted."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ustoolkit.commands.automatic import AUTO, Planned, kept_plan, plan, refuse_unfit
from ustoolkit.commands.console import Outcome, warn, warn_of_problems
from ustoolkit.errors import RecipeError, RunError

if TYPE_CHECKING:
    from ustoolkit.data.records import Records
    from ustoolkit.recipe import Recipe
    from ustoolkit.run import Run
    from ustoolkit.training.placement import Placement

_SEVERAL_REGIONS = 0.1  # of the training masks, from which on keeping one region is worth a warning


def train(options: argparse.Namespace) -> Outcome:
    """Trains, or goes on training; in each process of a cluster, where there is one."""
    from ustoolkit.data.records import Records
    from ustoolkit.recipe import load_recipe
    from ustoolkit.run import Run

    overrides = [*options.set, *([f"training.strategy={options.strategy}"] if options.strategy else [])]
    refuse_unfit(options)
    recipe = None if options.recipe == AUTO else load_recipe(options.recipe, overrides, options.preview)
    records, planned = Records(options.records), None
    if options.resume and (overrides or options.overwrite or options.splits):
        raise RunError("--resume goes on with the run's own recipe and split; leave out --set, --strategy, --splits.")
    begin: Callable[[], Run]
    if options.resume:
        begin = partial(_resumed, options, AUTO if recipe is None else recipe.name, records)
        recipe = Run(options.out).recipe
    else:
        if recipe is None:
            planned = _planned(options, overrides, records)
            recipe = planned.recipe
        begin = partial(_started, options, recipe, records)
    place = _place(recipe)

    from ustoolkit.training.worker_run import run_of_worker

    with run_of_worker(place, options.out, begin) as run:
        if place is None or place.writes:
            _warn(run, records)
        if run.recipe.classifies:
            from ustoolkit.commands.classification import train_classifier

            return train_classifier(run, records)
        return _trained(run, records, place, planned, options.out)


def _planned(options: argparse.Namespace, overrides: list[str], records: "Records") -> Planned:
    from ustoolkit.files import check_replaceable

    check_replaceable(options.out, options.overwrite, owned_by="run.json")  # before a plan takes its time
    return plan(options, overrides, records)


def _place(recipe: "Recipe") -> "Placement | None":
    """Where this process stands in its cluster; None where it trains alone. One that only serves stays here."""
    from ustoolkit.training.placement import Placement
    from ustoolkit.training.precision import share_cores
    from ustoolkit.training.strategy import serve, serves_only, wanted_cluster

    settings = recipe.training
    cluster = wanted_cluster(settings.strategy)
    if cluster is None:
        return None
    if recipe.classifies:
        raise RecipeError(
            f"{recipe.name}: networks that classify are trained in one process, on as many GPUs as it has; found a "
            "cluster of several. Leave out TF_CONFIG or SLURM's tasks, or add --strategy mirrored."
        )
    if serves_only(cluster):
        serve(cluster, settings.branches)
    share_cores(settings)  # both before TensorFlow is asked for anything else
    return Placement.of(settings.strategy, cluster)


def _resumed(options: argparse.Namespace, name: str, records: "Records") -> "Run":
    from ustoolkit.training.start import resume_run

    run = resume_run(records, options.out)
    if run.recipe.name != name:
        raise RunError(
            f"{options.out}: this run's recipe is '{run.recipe.name}', not '{name}'. Name that, with --preview if it "
            "began so."
        )
    return run


def _started(options: argparse.Namespace, recipe: "Recipe", records: "Records") -> "Run":
    from ustoolkit.training.start import start_run

    return start_run(recipe, records, options.out, options.splits, options.overwrite, options.allow_leak)


def _warn(run: "Run", records: "Records") -> None:
    from ustoolkit.data.split import several_regions

    for warning in run.state.get("warnings", ()):
        warn(warning)
    warn_of_problems(records, run.splits)
    if run.recipe.classifies or not run.recipe.inference.largest_component:
        return
    pieces = several_regions(records, run.splits["train"])
    if pieces > _SEVERAL_REGIONS:
        warn(
            f"{pieces:.0%} of the training masks have several regions, and the recipe keeps only the largest of a "
            "prediction; add --set inference.largest_component=false to keep all."
        )


def _trained(run: "Run", records: "Records", place: "Placement | None", planned: Planned | None, out: Path) -> Outcome:
    from ustoolkit.training.trainer import train

    with kept_plan(planned, run.folder):
        state = train(
            run,
            records,
            place.strategy if place else None,
            say=warn,
            cluster=place.cluster if place else None,
        )
    text = (
        f"validation Dice {state.best_score:.3f} (epoch {state.best_epoch} of {state.epoch}, "
        f"{state.seconds / 60:.1f} min, {state.waited_share:.1%} of it waiting for data; "
        f"{run.state['stopped_because']}); run in {out}"
    )
    reasons = {"choices": planned.choices} if planned else {}
    return {"run": str(out), **run.state, **reasons}, text
