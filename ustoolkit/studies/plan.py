"""The runs of a study: what each should be, and which of them is to be there before another."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ustoolkit.errors import RecipeError, RunError
from ustoolkit.recipe import Recipe, load_recipe
from ustoolkit.recipe.networks import BackboneFcnSettings
from ustoolkit.recipe.toml import nearest
from ustoolkit.studies.comparison import Arm, CrfTuning, FusionArm, Study
from ustoolkit.studies.protocols import protocol_records, protocol_splits

PRETRAINING = "pretraining"
_NOT_OF_A_BACKBONE = ("model", "classification")  # tables of a classifier that its backbone's pre-training has not


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
        needs: names of the runs that it starts from.
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
    needs: tuple[str, ...] = ()
    pretraining: bool = False

    @property
    def name(self) -> str:
        """As its folder is called within the study."""
        return f"{PRETRAINING}/{self.arm.name}" if self.pretraining else f"{self.arm.name}/seed{self.seed}"


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

    @property
    def name(self) -> str:
        """As its folder is called within the study."""
        return f"{self.arm.name}/seed{self.seed}"


Planned = PlannedRun | PlannedFusion


def plan_runs(study: Study, options: StudyOptions) -> list[Planned]:
    """The runs of a study: pre-training, then seed by seed over all arms, so that one cut short has as many of each.

    What a seed's runs are fused to comes after them.

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
    fusions = [fusion for fusion in study.fusions if fusion.name not in left_out]
    planned: list[Planned] = []
    for seed in range(options.seeds):
        runs = {arm.name: _planned_run(study, options, arm, seed) for arm in arms}
        planned += [*runs.values(), *(_planned_fusion(options, fusion, seed, runs) for fusion in fusions)]
    return [*_planned_pretraining(study, options, planned), *planned]


def left_out_arms(study: Study, options: StudyOptions) -> list[str]:
    """Names of the arms and fusions that are left out for want of records to pre-train on, in order."""
    if options.pretraining_records:
        return []
    arms = [arm.name for arm in study.arms if arm.pretraining]
    return [*arms, *(fusion.name for fusion in study.fusions if not set(arms).isdisjoint(fusion.of))]


def chosen_runs(planned: Sequence[Planned], only: Sequence[str]) -> list[Planned]:
    """Those of the arms named, with what they start from or are made of; all where none is named."""
    if not only:
        return list(planned)
    wanted = {run.name for run in planned if run.name in only or (run.arm.name in only and not run.pretraining)}
    for run in reversed(planned):  # what a run needs comes before it
        if run.name in wanted:
            wanted.update(run.needs)
    return [run for run in planned if run.name in wanted]


def _planned_run(study: Study, options: StudyOptions, arm: Arm, seed: int) -> PlannedRun:
    network = _network(load_recipe(arm.network_of, preview=options.preview)) if arm.network_of else ()
    needs = (f"{PRETRAINING}/{arm.pretraining}",) if arm.pretraining else ()
    # The whole path, since the command line may be called from elsewhere when the run goes on.
    start = tuple(f"training.initial_weights={json.dumps(str((options.out / name).resolve()))}" for name in needs)
    shorter = arm.preview_overrides if options.preview else ()
    overrides = (*network, *shorter, *options.changes, *arm.overrides, *start, f"training.seed={seed}")
    protocol = next((each for each in study.protocols if each.name == arm.protocol), None)
    return PlannedRun(
        arm,
        seed,
        options.out / "runs" / arm.name / f"seed{seed}",
        overrides,
        load_recipe(arm.recipe, overrides, preview=options.preview and not arm.quick),
        protocol_records(protocol, options.out) or options.records,
        protocol_splits(protocol, options.out, seed) or options.splits,
        study.crf,
        needs,
    )


def _planned_fusion(
    options: StudyOptions, fusion: FusionArm, seed: int, runs: Mapping[str, PlannedRun]
) -> PlannedFusion:
    members = [runs[name] for name in fusion.of]
    return PlannedFusion(
        fusion,
        seed,
        options.out / "fusions" / fusion.name / f"seed{seed}",
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


def _check_only(study: Study, options: StudyOptions) -> None:
    names = [arm.name for arm in (*study.arms, *study.fusions)]
    names += [f"{PRETRAINING}/{arm.name}" for arm in study.pretraining]
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
