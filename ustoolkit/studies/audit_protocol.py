"""What a split that ignores patients, or copies made before the split, do to each score of one and the same model.

The protocol of Xia et al. (FBB 2020), who make copies of images first and divide them at random afterwards, beside a
split by image and the split by patient that is given; for networks that segment and for classifiers.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ustoolkit.data.labels import labels_of
from ustoolkit.data.records import IndexRow, Records
from ustoolkit.data.split import Splits, check_trainable
from ustoolkit.errors import RecipeError, RecordsError
from ustoolkit.recipe import Recipe, load_recipe
from ustoolkit.studies.audit_tables import AUDIT, BY_IMAGE, BY_PATIENT, COPIES, AuditedModel, tabulate_audit
from ustoolkit.studies.classification_arms import LESION_FEATURES, NetworkArm, pretraining_arm
from ustoolkit.studies.comparison import Arm, Protocol, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ustoolkit.studies.results import Results

COPIES_FIRST = Protocol(COPIES, expand_to=3000, train=2000)
"""Printed: 3,000 images, of which 2,000 to train on."""

_MOST_OF_EACH, _LEAST_OF_EACH = 8, 2  # images that one becomes at most in a small set, and at least in a large one
_NETWORK = NetworkArm("resnet50", COPIES_FIRST.train, False, "bottleneck")
_COPIES_ARE_THERE = "classification.balance.expand_to=0"


@dataclass(frozen=True)
class Candidate:
    """A model to audit.

    Attributes:
        model: as tables name it.
        arm: how it is trained under the split that is given.
        same_size: whether it is to train on as many images under each protocol.
    """

    model: AuditedModel
    arm: Arm
    same_size: bool = True


class Audit(NamedTuple):
    """An audit as it suits some records, and what a reader must know of these, a sentence each."""

    study: Study
    notes: tuple[str, ...]


_UNET = Arm("unet", "unet", preview_overrides=("training.epochs=10",))  # 18 runs are many for the preview's 24
SHIPPED = (
    Candidate(AuditedModel(_UNET.name, "U-net", classifies=False), _UNET),
    Candidate(
        AuditedModel(_NETWORK.network, "ResNet50, bottleneck features", classifies=True),
        replace(_NETWORK.arm, preview_overrides=()),  # which the study with 24 classifiers a seed needs, not this one
    ),
    Candidate(
        AuditedModel(LESION_FEATURES.name, "lesion features, no network", classifies=True), LESION_FEATURES, False
    ),
)


def audit_of(
    records: Records, splits: Splits, recipes: Sequence[str] = (), preview: bool = False, changes: Sequence[str] = ()
) -> Audit:
    """The audit of some recipes on some records.

    Args:
        records: to train and test on.
        splits: the split by patient that is given.
        recipes: names of shipped recipes or paths; none for a U-net, a ResNet50 and lesion features.
        preview: whether each recipe is made small by its `[preview]`.
        changes: 'table.key=value', for every recipe.
    Returns:
        the study, without classifiers where the records have no labels for them, and with copies made first in numbers
        that suit the records; and notes on both.
    Raises:
        RecipeError: a recipe or a setting is not valid, two have one name, or none suits the records.
        RecordsError: there are labels, but a part of the split lacks one that a classifier needs.
    """
    candidates = [_candidate(recipe) for recipe in recipes] or list(SHIPPED)
    _refuse_same_names(candidates)
    chosen = set().union(*splits.values())
    rows = [row for row in records.index if row.source_id in chosen]
    if not rows:
        raise RecordsError(f"{records.folder}: expected a split with images, found none in its parts. Split again.")
    copies = copies_first(rows)
    kept, arms = list[Candidate](), list[Arm]()
    notes: dict[str, None] = {}
    for candidate in candidates:
        recipe = _recipe_of(candidate.arm, preview, changes)
        lacking = _lacking_labels(recipe, records, splits) if recipe.classifies else ""
        if lacking:
            notes[f"Only models that segment are audited, since classifiers need labels: {lacking}"] = None
            continue
        kept.append(candidate)
        limit = _size_of_copies(recipe, len(splits["train"]), copies) if candidate.same_size else ()
        arms += audit_arms(candidate, copies, limit)
    if not kept:
        raise RecipeError(f"--recipe {', '.join(recipes)}: every recipe classifies. {next(iter(notes))}")
    if len({row.patient_id for row in rows} - {""}) == len(rows):
        notes[
            "Each patient has one image, so that an image-wise split divides no patient: it is a patient-wise one, "
            "drawn anew for each seed."
        ] = None
    return Audit(_study(kept, arms, copies, tuple(notes)), tuple(notes))


def copies_first(rows: Iterable[IndexRow]) -> Protocol:
    """The protocol that makes copies first: the printed numbers where they suit, and in that proportion elsewhere.

    Args:
        rows: images to divide; 1 or more.
    Returns:
        of small sets eight times as many images, of large ones twice as many, and enough for labels of equal size.
    """
    labels = Counter(row.label for row in rows)
    images = labels.total()
    most = max(_LEAST_OF_EACH * images, len(labels) * max(labels.values()))
    expand_to = max(min(COPIES_FIRST.expand_to, _MOST_OF_EACH * images), most)
    train = round(expand_to * COPIES_FIRST.train / COPIES_FIRST.expand_to)
    return replace(COPIES_FIRST, expand_to=expand_to, train=train)


def audit_arms(candidate: Candidate, copies: Protocol, limit: Sequence[str] = ()) -> tuple[Arm, ...]:
    """One model under the split that is given, under one by image, and with copies made first.

    Args:
        candidate: the model.
        copies: the protocol that makes copies first.
        limit: overrides that let it train on as many images there as elsewhere.
    Returns:
        the arms; where copies are there already, a classifier makes none while training.
    """
    arm, name = candidate.arm, candidate.model.arm
    there = (_COPIES_ARE_THERE,) if candidate.model.classifies else ()
    return (
        replace(arm, name=name(BY_PATIENT)),
        replace(arm, name=name(BY_IMAGE), protocol=BY_IMAGE),
        replace(arm, name=name(COPIES), overrides=(*arm.overrides, *there, *limit), protocol=copies.name),
    )


def _size_of_copies(recipe: Recipe, trained: int, copies: Protocol) -> tuple[str, ...]:
    """Overrides that limit training on copies to as many images as the recipe trains on otherwise."""
    own = recipe.training.images
    made = recipe.classification.balance.expand_to if recipe.classifies else 0
    wanted = made or (min(own, trained) if own else trained)
    return () if wanted in (own, copies.train) else (f"training.images={wanted}",)


def _candidate(recipe: str) -> Candidate:
    found = load_recipe(recipe)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", found.name).strip("-.")
    if not name:
        raise RecipeError(f"--recipe {recipe}: expected letters or digits in its name, found '{found.name}'. Name it.")
    arm = Arm(name, recipe, quick=found.model.name == LESION_FEATURES.recipe)  # which is quick as it is
    return Candidate(AuditedModel(name, found.name, found.classifies), arm)


def _recipe_of(arm: Arm, preview: bool, changes: Sequence[str]) -> Recipe:
    shorter = arm.preview_overrides if preview else ()
    return load_recipe(arm.recipe, (*shorter, *changes, *arm.overrides), preview=preview and not arm.quick)


def _refuse_same_names(candidates: Sequence[Candidate]) -> None:
    names = Counter(candidate.model.name for candidate in candidates)
    name, count = names.most_common(1)[0]
    if count > 1:
        raise RecipeError(f"--recipe: {count} recipes are named '{name}'. Give each a name of its own.")


def _lacking_labels(recipe: Recipe, records: Records, splits: Splits) -> str:
    """Why records cannot teach a classifier; '' where they can.

    Raises:
        RecordsError: they can, but not as they are split.
    """
    rows = {row.source_id: row for row in records.index}
    positive = recipe.classification.positive
    everything = [name for names in splits.values() for name in names]
    try:
        labels_of((rows[name] for name in everything), positive)
        check_trainable(everything, records, "an audit of classifiers", needs="label")
    except RecordsError as problem:
        return str(problem)
    for part, names in splits.items():
        try:
            labels_of((rows[name] for name in names), positive)
        except RecordsError as problem:
            raise RecordsError(
                f"{records.folder}, part '{part}': {problem} Or split again with another --seed or a larger share; or "
                "audit a recipe that segments alone, with --recipe."
            ) from None
    return ""


def _study(candidates: Sequence[Candidate], arms: Sequence[Arm], copies: Protocol, notes: tuple[str, ...]) -> Study:
    models = tuple(candidate.model for candidate in candidates)
    return Study(
        name=AUDIT,
        description="what splits that ignore patients, and copies made before the split, do to each score",
        arms=tuple(arms),
        comparisons=(),
        pretraining=tuple(pretraining_arm(name) for name in dict.fromkeys(arm.pretraining for arm in arms) if name),
        protocols=(Protocol(BY_IMAGE), copies),
        tabulate=partial(tabulate_audit, models=models, copies=copies, notes=notes),
        draw=_draw,
    )


def _draw(results: "Results") -> "dict[str, Figure]":
    from ustoolkit.report.study_figures import IntervalRow, interval_figure

    headers = {score.name: score.header for candidate in SHIPPED for score in candidate.model.scores}

    def rows(ending: str, protocols: Sequence[str]) -> list[IntervalRow]:
        shown = [(row, f"{row['main']}{ending}") for row in results.tables[AUDIT] if row["protocol"] in protocols]
        return [
            IntervalRow(
                f"{row['label']}: {headers[row['main']]}",
                row[key],
                row[f"{key}_low"],
                row[f"{key}_high"],
                row["protocol"],
            )
            for row, key in shown
        ]

    return {
        AUDIT: interval_figure(rows("", (BY_PATIENT, BY_IMAGE, COPIES)), "score of the test part, 95 % interval"),
        f"{AUDIT}-above": interval_figure(
            rows("_above", (BY_IMAGE, COPIES)), "above the patient-wise score, 95 % interval", reference=0.0
        ),
    }


AUDIT_PROTOCOL = _study(
    SHIPPED,
    [arm for candidate in SHIPPED for arm in audit_arms(candidate, COPIES_FIRST)],
    COPIES_FIRST,
    (),
)
"""The audit of the shipped models with as many copies as printed; `audit_of` fits it to records."""
