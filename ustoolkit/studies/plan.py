"""The runs of a study: what each should be, and which of them is to be there before another."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ustoolkit.errors import RecipeError, RunError
from ustoolkit.recipe import Recipe, load_recipe
from ustoolkit.recipe.toml import nearest
from ustoolkit.studies.comparison import Arm, CrfTuning, Study

PRETRAINING = "pretraining"


@dataclass(frozen=True)
class StudyOptions:
    """What is asked of a study.

    Attributes:
        records: folder to train and test on.
        out: folder of the study.
        splits: a `splits.json`; None for the one in the records folder.
        seeds: how many, from 0 on.
        preview: whether each recipe is made small by its `[preview]`.
        changes: 'table.key=value', for every arm, and for pre-training where that does not set it itself.
        only: names of the arms to train; none for all.
        jobs: how many runs at a time; 0 for one a core.
        overwrite: whether runs that differ from what is asked are trained again.
        pretraining_records: folder, with its own `splits.json`, to pre-train on; None to leave out the arms that start
            from that.
    """

    records: Path
    out: Path
    splits: Path | None = None
    seeds: int = 3
    preview: bool = False
    changes: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    jobs: int = 0
    overwrite: bool = False
    pretraining_records: Path | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One arm with one seed, or a pre-training.

    Attributes:
        arm: which.
        seed: of weights, order, augmentation, noise and dropout.
        folder: its run folder.
        overrides: of the arm's recipe: the user's, the arm's, and the seed.
        recipe: resolved.
        records: folder that it is trained on.
        splits: a `splits.json`; None for the one in the records folder.
        crf: how its CRF is tuned; None where it is scored without one.
        needs: name of the run that it starts from; '' for none.
        pretraining: whether it is one, which is not scored.
    """

    arm: Arm
    seed: int
    folder: Path
    overrides: tuple[str, ...]
    recipe: Recipe
    records: Path
    splits: Path | None = None
    crf: CrfTuning | None = None
    needs: str = ""
    pretraining: bool = False

    @property
    def name(self) -> str:
        """As its folder is called within the study."""
        return f"{PRETRAINING}/{self.arm.name}" if self.pretraining else f"{self.arm.name}/seed{self.seed}"


def plan_runs(study: Study, options: StudyOptions) -> list[PlannedRun]:
    """The runs of a study: pre-training, then seed by seed over all arms, so that one cut short has as many of each.

    Args:
        study: which.
        options: without records to pre-train on, the arms that need it are left out.
    Raises:
        RecipeError: a recipe or a setting is not valid, an arm has no such name, or a setting is what the arms compare.
        RunError: no seed is asked for.
    """
    if options.seeds < 1:
        raise RunError(f"--seeds {options.seeds}: expected 1 or more. Leave it out for 3.")
    _check_only(study, options)
    _check_changes(study, options.changes)
    left_out = left_out_arms(study, options)
    arms = [arm for arm in study.arms if arm.name not in left_out]
    planned = [_planned_run(study, options, arm, seed) for seed in range(options.seeds) for arm in arms]
    return [*_planned_pretraining(study, options, planned), *planned]


def left_out_arms(study: Study, options: StudyOptions) -> list[str]:
    """Names of the arms that cannot be trained for want of records to pre-train on, in order."""
    return [] if options.pretraining_records else [arm.name for arm in study.arms if arm.pretraining]


def chosen_runs(planned: Sequence[PlannedRun], only: Sequence[str]) -> list[PlannedRun]:
    """Those of the arms named, with the pre-training that they start from; all where none is named."""
    if not only:
        return list(planned)
    named = [run for run in planned if run.name in only or (run.arm.name in only and not run.pretraining)]
    wanted = {run.name for run in named} | {run.needs for run in named}
    return [run for run in planned if run.name in wanted]


def _planned_run(study: Study, options: StudyOptions, arm: Arm, seed: int) -> PlannedRun:
    network = _network(load_recipe(arm.network_of, preview=options.preview)) if arm.network_of else ()
    needs = f"{PRETRAINING}/{arm.pretraining}" if arm.pretraining else ""
    # The whole path, since the command line may be called from elsewhere when the run goes on.
    start = (f"training.initial_weights={json.dumps(str((options.out / needs).resolve()))}",) if needs else ()
    overrides = (*network, *options.changes, *arm.overrides, *start, f"training.seed={seed}")
    return PlannedRun(
        arm,
        seed,
        options.out / "runs" / arm.name / f"seed{seed}",
        overrides,
        load_recipe(arm.recipe, overrides, preview=options.preview),
        options.records,
        options.splits,
        study.crf,
        needs,
    )


def _planned_pretraining(study: Study, options: StudyOptions, planned: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Each pre-training that an arm starts from, with that arm's network and learning rate."""
    made = []
    for arm in study.pretraining:
        name = f"{PRETRAINING}/{arm.name}"
        target = next((run.recipe for run in planned if run.needs == name), None)
        if target is None or options.pretraining_records is None:
            continue
        # A rate that suits one network leaves another behind, so that it goes with the network.
        rate = f"training.learning_rate={target.training.learning_rate}"
        overrides = (*options.changes, rate, *arm.overrides, *_network(target), "training.seed=0")
        recipe = load_recipe(arm.recipe, overrides, preview=options.preview)
        folder = options.out / name
        made.append(PlannedRun(arm, 0, folder, overrides, recipe, options.pretraining_records, pretraining=True))
    return made


def _network(recipe: Recipe) -> tuple[str, ...]:
    """Overrides that give another recipe this one's network, all its settings spelled out."""
    settings = recipe.model.model_dump(mode="json")
    keys = ["name", *(key for key in settings if key != "name")]  # the name starts the table afresh, so it comes first
    return tuple(f"model.{key}={json.dumps(settings[key])}" for key in keys)


def _check_only(study: Study, options: StudyOptions) -> None:
    names = [*(arm.name for arm in study.arms), *(f"{PRETRAINING}/{arm.name}" for arm in study.pretraining)]
    left_out = left_out_arms(study, options)
    for name in options.only:
        if name not in names:
            raise RecipeError(f"--only {name}: the study '{study.name}' has no such arm. {nearest(name, names)}")
        if name in left_out or (name.startswith(f"{PRETRAINING}/") and not options.pretraining_records):
            raise RecipeError(
                f"--only {name}: this needs pre-training, and there are no records to pre-train on. Name some, of "
                "natural images, by --pretraining-records DIR."
            )


def _check_changes(study: Study, changes: Sequence[str]) -> None:
    compared = {"training.seed", *_keys(override for arm in study.arms for override in arm.overrides)}
    if study.pretraining:
        compared.add("training.initial_weights")
    for key in _keys(changes):
        clash = [other for other in compared if f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.")]
        if clash:
            raise RecipeError(f"--set {key}: the study '{study.name}' sets {clash[0]} itself. Leave it out.")


def _keys(overrides: Iterable[str]) -> list[str]:
    return [override.partition("=")[0].strip() for override in overrides]
