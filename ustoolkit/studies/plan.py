"""The runs of a study: what each should be, and which of them is to be there before another."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ustoolkit.recipe import Recipe, load_recipe
from ustoolkit.recipe.networks import BackboneFcnSettings
from ustoolkit.studies.asked import PRETRAINING, StudyOptions, check_asked, folds_of, left_out, matches
from ustoolkit.studies.comparison import Arm, CrfTuning, FusionArm, Study
from ustoolkit.studies.image_sets import records_of_arm, splits_of_arm

_NOT_OF_A_BACKBONE = ("model", "classification")  # tables of a classifier that its backbone's pre-training has not


@dataclass(frozen=True)
class PlannedRun:
    """One arm with one seed and fold, or a pre-training.

    Attributes:
        arm: which.
        seed: of weights, order, augmentation, noise and dropout.
        folder: its run folder.
        overrides: of the arm's recipe: the arm's, the user's, and the seed.
        recipe: resolved.
        records: folder that it is trained on.
        splits: a `splits.json`; None for the one in the records folder.
        crf: how its CRF is tuned; None where it is scored without one.
        needs: names of the runs that it starts from.
        pretraining: whether it is one, which is not scored.
        fold: of the folds that it is tested on; 0 where there are none.
        after: names of the runs that its overrides depend on.
        undecided: whether those are not finished, so that overrides and recipe are not known.
    """

    arm: Arm
    seed: int
    folder: Path
    overrides: tuple[str, ...]
    recipe: Recipe
    records: Path
    splits: Path | None = None
    crf: CrfTuning | None = None
    needs: tuple[str, ...] = ()
    pretraining: bool = False
    fold: int = 0
    after: tuple[str, ...] = ()
    undecided: bool = False

    @property
    def name(self) -> str:
        """As its folder is called within the study."""
        if self.pretraining:
            return f"{PRETRAINING}/{self.arm.name}"
        return f"{self.arm.name}/{_repetition(self.seed, self.fold)}"


@dataclass(frozen=True)
class PlannedFusion:
    """One fusion of runs with one seed.

    Attributes:
        arm: which.
        seed: of the runs.
        folder: its folder.
        records: folder that the runs are trained on.
        needs: names of the runs.
        members: their folders.
    """

    arm: FusionArm
    seed: int
    folder: Path
    records: Path
    needs: tuple[str, ...]
    members: tuple[Path, ...]
    pretraining = False
    fold = 0
    after = ()

    @property
    def name(self) -> str:
        """As its folder is called within the study."""
        return f"{self.arm.name}/{_repetition(self.seed, self.fold)}"


Planned = PlannedRun | PlannedFusion


def plan_runs(study: Study, options: StudyOptions) -> list[Planned]:
    """The runs of a study: pre-training, the ladder, then seed by seed over folds and arms.

    So one cut short has as many runs of each arm. What a seed's runs are fused to comes after them. What the ladder's
    runs are depends on those of them that are finished, so that planning again later may say more.

    Args:
        study: which.
        options: without records to pre-train on, or second ones, the arms that need them are left out.
    Raises:
        RecipeError: a recipe or a setting is not valid, an arm has no such name, or a setting is what the arms compare.
        RunError: no seed is asked for, or folds that cannot be.
    """
    check_asked(study, options)
    lacking = left_out(study, options)
    arms = [arm for arm in study.arms if arm.name not in lacking]
    fusions = [fusion for fusion in study.fusions if fusion.name not in lacking]
    planned: list[Planned] = [*_climbed(study, options)]
    for seed in range(options.seeds):
        for fold in folds_of(study, options):
            planned += (_planned_run(study, options, arm, seed, fold) for arm in arms)
        of_seed = {run.arm.name: run for run in planned if isinstance(run, PlannedRun) and run.seed == seed}
        planned += [_planned_fusion(options, fusion, seed, of_seed) for fusion in fusions]
    return [*_planned_pretraining(study, options, planned), *planned]


def chosen_runs(planned: Sequence[Planned], only: Sequence[str]) -> list[Planned]:
    """Those of the arms named, with what they start from, depend on or are made of; all where none is named."""
    if not only:
        return list(planned)
    wanted = {run.name for run in planned if matches(run.name, only) and run.pretraining}
    wanted |= {run.name for run in planned if matches(run.arm.name, only) and not run.pretraining}
    for run in reversed(planned):  # what a run needs comes before it
        if run.name in wanted:
            wanted.update((*run.needs, *run.after))
    return [run for run in planned if run.name in wanted]


def _repetition(seed: int, fold: int) -> str:
    return f"seed{seed}-fold{fold}" if fold else f"seed{seed}"


def _planned_run(study: Study, options: StudyOptions, arm: Arm, seed: int, fold: int, **more: Any) -> PlannedRun:
    network = _network(load_recipe(arm.network_of, preview=options.preview)) if arm.network_of else ()
    needs = (f"{PRETRAINING}/{arm.pretraining}",) if arm.pretraining else ()
    # The whole path, since the command line may be called from elsewhere when the run goes on.
    start = tuple(f"training.initial_weights={json.dumps(str((options.out / name).resolve()))}" for name in needs)
    shorter = arm.preview_overrides if options.preview else ()
    overrides = (*network, *arm.overrides, *shorter, *options.changes, *start, f"training.seed={seed}")
    return PlannedRun(
        arm,
        seed,
        options.out / "runs" / arm.name / _repetition(seed, fold),
        overrides,
        load_recipe(arm.recipe, overrides, preview=options.preview and not arm.quick),
        records_of_arm(study, options, arm),
        splits_of_arm(study, options, arm, seed, fold),
        study.crf,
        needs,
        fold=fold,
        **more,
    )


def _climbed(study: Study, options: StudyOptions) -> Iterator[PlannedRun]:
    """Every step of the ladder, with what was kept of those before it."""
    from ustoolkit.studies.ladder import Climb

    climb = Climb(study.ladder, options) if study.ladder else None
    before: tuple[str, ...] = ()
    while climb is not None and (step := climb.next_step()):
        runs = [
            _planned_run(study, options, step, seed, fold, after=before, undecided=climb.undecided)
            for seed in range(options.seeds)
            for fold in folds_of(study, options)
        ]
        climb.take(runs)
        before += tuple(run.name for run in runs)
        yield from runs


def _planned_fusion(
    options: StudyOptions, fusion: FusionArm, seed: int, runs: Mapping[str, PlannedRun]
) -> PlannedFusion:
    members = [runs[name] for name in fusion.of]
    return PlannedFusion(
        fusion,
        seed,
        options.out / "fusions" / fusion.name / _repetition(seed, 0),
        options.records,
        tuple(run.name for run in members),
        tuple(run.folder for run in members),
    )


def _planned_pretraining(study: Study, options: StudyOptions, planned: Sequence[Planned]) -> list[PlannedRun]:
    """Each pre-training that an arm starts from, with that arm's network and learning rate, or with its backbone."""
    made = []
    for arm in study.pretraining:
        name = f"{PRETRAINING}/{arm.name}"
        target = next((run.recipe for run in planned if isinstance(run, PlannedRun) and name in run.needs), None)
        if target is None or options.pretraining_records is None:
            continue
        shorter = arm.preview_overrides if options.preview else ()
        if isinstance(load_recipe(arm.recipe).model, BackboneFcnSettings):
            changes = [change for change in options.changes if change.split(".")[0].strip() not in _NOT_OF_A_BACKBONE]
            overrides = (*shorter, *changes, *arm.overrides, *_network(target, "model.classifier"), "training.seed=0")
        else:
            # A rate that suits one network leaves another behind, so that it goes with the network.
            rate = f"training.learning_rate={target.training.learning_rate}"
            overrides = (*shorter, *options.changes, rate, *arm.overrides, *_network(target), "training.seed=0")
        recipe = load_recipe(arm.recipe, overrides, preview=options.preview)
        folder = options.out / name
        made.append(PlannedRun(arm, 0, folder, overrides, recipe, options.pretraining_records, pretraining=True))
    return made


def _network(recipe: Recipe, table: str = "model") -> tuple[str, ...]:
    """Overrides that give another recipe this one's network, all its settings spelled out."""
    settings = recipe.model.model_dump(mode="json")
    keys = ["name", *(key for key in settings if key != "name")]  # the name starts the table afresh, so it comes first
    return tuple(f"{table}.{key}={json.dumps(settings[key])}" for key in keys)
