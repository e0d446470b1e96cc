"""What a split that ignores patients, or copies made before the split, do to scores of one and the same classifier.

The protocol of Xia et al. (FBB 2020), who make copies of images first and divide them at random afterwards, beside a
split by image and the split by patient that is given.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ustoolkit.data.records import Records
from ustoolkit.evaluation.statistics import PairedDifference
from ustoolkit.run import Run
from ustoolkit.studies.classification_arms import LESION_FEATURES, NetworkArm, pretraining_arm
from ustoolkit.studies.classification_intervals import AucStatistic, Statistic, estimate, estimate_auc
from ustoolkit.studies.classification_scores import ClassifierScores, Scored, read_classifiers, spread
from ustoolkit.studies.classification_tables import about_runs, format_estimate
from ustoolkit.studies.comparison import Arm, Protocol, Study, Table
from ustoolkit.studies.stages import FinishedRuns
from ustoolkit.studies.table_files import format_number, format_spread

Row = dict[str, Any]
BY_PATIENT = "patient-wise"
BY_IMAGE = Protocol("image-wise")
COPIES_FIRST = Protocol("augment-then-split", expand_to=3000, train=2000)
"""Printed: 3,000 images, of which 2,000 to train on."""

_NETWORK = NetworkArm("resnet50", COPIES_FIRST.train, False, "bottleneck")
_LABELS = {"resnet50": "ResNet50, bottleneck features", LESION_FEATURES.name: "lesion features, no network"}
_VERDICTS = {"better": "inflated", "worse": "lower", "undecided": "undecided"}
_COPIES_ARE_THERE = "classification.balance.expand_to=0"


def leakage_arms(model: str, arm: Arm, protocols: Sequence[Protocol]) -> tuple[Arm, ...]:
    """One classifier under the split that is given and under each protocol.

    Args:
        model: beginning of the arms' names.
        arm: the classifier.
        protocols: those whose images hold copies already get none while training.
    """
    made = [Arm(f"{model}-{BY_PATIENT}", arm.recipe, arm.overrides, pretraining=arm.pretraining, quick=arm.quick)]
    for protocol in protocols:
        balance = (_COPIES_ARE_THERE,) if protocol.expand_to else ()
        changes = (*arm.overrides, *balance)
        name = f"{model}-{protocol.name}"
        made.append(
            Arm(name, arm.recipe, changes, pretraining=arm.pretraining, protocol=protocol.name, quick=arm.quick)
        )
    return tuple(made)


def tabulate_leakage(finished: FinishedRuns) -> list[Table]:
    """The table of all classifiers under each protocol.

    Raises:
        RunError: an evaluation or a run is damaged.
    """
    scores = read_classifiers(finished.runs)
    rows = leakage_rows(scores)
    header = ["Classifier", "Protocol", "Seeds", "Training images", "Test images", "of a patient trained on"]
    header += ["of an image trained on", "AUC by image", "Mean, interval", "AUC above patient-wise", "Verdict"]
    lines = []
    for row in rows:
        cells = [row["label"], row["protocol"], str(row["seeds"]) if row["seeds"] else "missing"]
        cells += [format_number(row[key], 0) for key in ("training_images", "test_images")]
        cells += [_percent(row[key]) for key in ("of_trained_patients", "of_trained_images")]
        cells += [format_spread(row, "roc_auc"), format_estimate(row, "roc_auc"), format_estimate(row, "above", 3, "+")]
        lines.append([*cells, row["verdict"] or "–"])
    return [Table("leakage", "Leaks between parts", rows, header, lines, _about(finished))]


def leakage_rows(scores: Mapping[str, Sequence[ClassifierScores]]) -> list[Row]:
    """Scores of each classifier under each protocol.

    Args:
        scores: by arm.
    Returns:
        dicts of label, arm, protocol, seeds; training_images, copies included, and test_images, of the first seed;
        shares of the test images whose patient, or who themselves or as another copy, are in training or validation,
        mean over seeds; roc_auc by image with interval, `_mean` and `_deviation` over seeds; above, that less the
        patient-wise one, with interval; verdict. NaN where there is no run.
    """
    rows = []
    for model, label in _LABELS.items():
        baseline = {run.seed: run.by["image"] for run in scores.get(f"{model}-{BY_PATIENT}", ())}
        for protocol in (BY_PATIENT, BY_IMAGE.name, COPIES_FIRST.name):
            arm = f"{model}-{protocol}"
            runs = scores.get(arm, ())
            row: Row = {"label": label, "arm": arm, "protocol": protocol, "seeds": len(runs), **_shares(runs)}
            mean, deviation = spread(run.metrics["image"]["roc_auc"] for run in runs)
            found = estimate_auc([run.by["image"] for run in runs]) if runs else None
            row |= {"roc_auc_mean": mean, "roc_auc_deviation": deviation} | _interval("roc_auc", found)
            pairs = [(run.by["image"], baseline[run.seed]) for run in runs if run.seed in baseline]
            above = _difference(pairs) if pairs and protocol != BY_PATIENT else None
            row |= _interval("above", above)
            verdict = "baseline" if protocol == BY_PATIENT else ""
            rows.append({**row, "verdict": _VERDICTS[above.verdict] if above else verdict})
    return rows


def _difference(pairs: Sequence[tuple[Scored, Scored]]) -> PairedDifference:
    """Area of the first less that of the second, which are of other images, mean over seeds."""
    patients = sorted({name for pair in pairs for side in pair for name in side.patients.tolist()})

    def difference(pair: tuple[Scored, Scored]) -> Statistic:
        first, second = (AucStatistic([(1.0, side)], patients) for side in pair)
        return lambda weights: first(weights) - second(weights)

    return estimate([difference(pair) for pair in pairs], len(patients), len(pairs[0][0].names))


def _shares(runs: Sequence[ClassifierScores]) -> Row:
    """How much of the test part training knew."""
    found = []
    for scored in runs:
        run = Run(scored.folder)
        rows = {row.source_id: row for row in Records(run.records).index}
        learnt = [rows[name] for part in ("train", "validation") for name in run.splits[part]]
        patients = {row.patient_id for row in learnt}
        images = {row.attributes.get("expanded_from", row.source_id) for row in learnt}
        tested = [rows[name] for name in scored.by["image"].names]
        same_image = [row.attributes.get("expanded_from", row.source_id) in images for row in tested]
        same_patient = [row.patient_id in patients for row in tested]
        trained = run.state.get("training_images", math.nan)
        found.append((trained, len(tested), sum(same_patient) / len(tested), sum(same_image) / len(tested)))
    keys = ("training_images", "test_images", "of_trained_patients", "of_trained_images")
    if not found:
        return dict.fromkeys(keys, math.nan)
    means = [spread(values)[0] for values in zip(*found, strict=True)]
    return dict(zip(keys, means, strict=True))


def _interval(name: str, found: PairedDifference | None) -> Row:
    low, high = (found.interval_low, found.interval_high) if found else (math.nan, math.nan)
    return {name: found.mean if found else math.nan, f"{name}_low": low, f"{name}_high": high}


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"


def _about(finished: FinishedRuns) -> str:
    lines = [
        "AUC by image: mean ± standard deviation over seeds, and the same mean with a 95 % interval that draws "
        "patients and seeds (bootstrap). Its height above the patient-wise one draws patients of both test parts "
        "together, and is not corrected for the number of comparisons.",
        "Patient-wise: the split that is given, one for all seeds; copies are made of training images alone. "
        "Image-wise: as many images of each label in each part, drawn at random, whosever they are, anew for each "
        "seed; copies as before. Augment-then-split: all images and changed copies of them, "
        f"{COPIES_FIRST.expand_to:,} with as many of each label, are divided at random, anew for each seed: "
        f"{COPIES_FIRST.train:,} to train on, a quarter of the others to validate and the rest to test.",
        f"What else differs: the network trains on {COPIES_FIRST.train:,} images each time, but those of "
        "augment-then-split come from nearly every image of the set, not from its training part, and its copies are "
        "changed as whole pictures before the lesion is cut out; its test part is larger, holds as many of each label, "
        "and copies too, which may be harder. Lesion features are measured on the training images as they are, without "
        "copies but for augment-then-split, where they are part of the images.",
        "The last two protocols are here to show what leaks: their scores say nothing of new patients.",
    ]
    return "\n\n".join([*lines, *about_runs(finished)])


LEAKAGE = Study(
    name="leakage",
    description="what splits that ignore patients, and copies made before the split, do to scores",
    arms=(
        *leakage_arms(LESION_FEATURES.name, LESION_FEATURES, (BY_IMAGE, COPIES_FIRST)),
        *leakage_arms(_NETWORK.network, _NETWORK.arm, (BY_IMAGE, COPIES_FIRST)),
    ),
    comparisons=(),
    pretraining=(pretraining_arm(_NETWORK.network),),
    protocols=(BY_IMAGE, COPIES_FIRST),
    tabulate=tabulate_leakage,
)
