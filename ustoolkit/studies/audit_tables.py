"""The tables of an audit: each model under each protocol, and how far each score lies above the patient-wise one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ustoolkit.evaluation.statistics import PairedDifference
from ustoolkit.studies.audit_scores import (
    CLASSIFICATION_SCORES,
    SEGMENTATION_SCORES,
    AuditedRun,
    KnownShare,
    Score,
    estimate_above,
    estimate_score,
    read_audited,
)
from ustoolkit.studies.classification_scores import spread
from ustoolkit.studies.classification_tables import about_runs, format_estimate
from ustoolkit.studies.comparison import Protocol, Table
from ustoolkit.studies.plan import PlannedRun
from ustoolkit.studies.stages import FinishedRuns
from ustoolkit.studies.table_files import Row, format_number, format_spread

BY_PATIENT, BY_IMAGE, COPIES = "patient-wise", "image-wise", "augment-then-split"
AUDIT, EACH_SCORE = "audit-protocol", "audit-protocol-each-score"
_VERDICTS = {"better": "inflated", "worse": "lower", "undecided": "undecided"}
_UNKNOWN = KnownShare(math.nan, math.nan, math.nan, math.nan)
_NOTHING = PairedDifference(math.nan, math.nan, math.nan, 0, 0)


@dataclass(frozen=True)
class AuditedModel:
    """What is trained under each protocol.

    Attributes:
        name: its arms' names begin with it.
        label: for a reader.
        classifies: whether it gives images a label, not masks.
    """

    name: str
    label: str
    classifies: bool

    def arm(self, protocol: str) -> str:
        """Name of its arm under a protocol."""
        return f"{self.name}-{protocol}"

    @property
    def scores(self) -> tuple[Score, ...]:
        """Its scores, the one first that the verdict is on."""
        return CLASSIFICATION_SCORES if self.classifies else SEGMENTATION_SCORES


def tabulate_audit(
    finished: FinishedRuns, models: Sequence[AuditedModel], copies: Protocol, notes: Sequence[str]
) -> list[Table]:
    """The table of all models under each protocol, and that of each score's height above the patient-wise one.

    Args:
        finished: the runs that are there.
        models: that are audited.
        copies: the protocol that makes copies first.
        notes: what a reader must know of the records.
    Raises:
        RunError: an evaluation or a run is damaged.
    """
    rows = audit_rows(read_audited(run for run in finished.runs if isinstance(run, PlannedRun)), models)
    scores = _all_scores(models)
    above = [row for row in rows if row["protocol"] != BY_PATIENT]
    about = "\n\n".join([*_about(rows, models, copies), *notes, *about_runs(finished)])
    about_each = (
        "Each score less the patient-wise one of the same seed, mean over seeds, with a 95 % interval that draws "
        "patients of both test parts together, and seeds (bootstrap); not corrected for the number of comparisons. "
        "Above zero flatters, but for HD95 (pixels) and the Brier score, of which less is better. Accuracy and the "
        "Brier score also change with the share of each label, which augment-then-split makes equal."
    )
    return [
        Table(AUDIT, "Scores by protocol", rows, *_lines(rows, models, scores), about),
        Table(EACH_SCORE, "Each score above the patient-wise one", above, *_above_lines(above, scores), about_each),
    ]


def audit_rows(runs: Mapping[str, Sequence[AuditedRun]], models: Sequence[AuditedModel]) -> list[Row]:
    """Scores of each model under each protocol.

    Args:
        runs: by arm, by rising seed.
        models: that are audited.
    Returns:
        dicts of label, arm, protocol, seeds; the attributes of `KnownShare`, mean over seeds; main, the name of the
        score that the verdict is on; for each score of any model its mean over seeds, `_low` and `_high` of the 95 %
        interval, the same as `_mean` with its `_deviation` over seeds, and `_above`, the difference from the
        patient-wise one of the same seeds, with `_above_low` and `_above_high`; verdict. NaN where there is no run,
        and for scores that the model does not have.
    """
    everything = _all_scores(models)
    rows = []
    for model in models:
        baseline = {run.seed: run for run in runs.get(model.arm(BY_PATIENT), ())}
        main = model.scores[0]
        for protocol in (BY_PATIENT, BY_IMAGE, COPIES):
            arm = model.arm(protocol)
            found = runs.get(arm, ())
            row: Row = {"label": model.label, "arm": arm, "protocol": protocol, "seeds": len(found)}
            row |= {**_known(found), "main": main.name}
            pairs = [(run, baseline[run.seed]) for run in found if run.seed in baseline]
            verdict = "baseline" if protocol == BY_PATIENT else ""
            for score in everything:
                own = score in model.scores
                mean, deviation = spread(run.score(score.name) for run in found if own)
                row |= {f"{score.name}_mean": mean, f"{score.name}_deviation": deviation}
                row |= _interval(score.name, estimate_score(found, score.name) if own and found else _NOTHING)
                compared = own and pairs and protocol != BY_PATIENT
                above = estimate_above(pairs, score.name) if compared else _NOTHING
                row |= _interval(f"{score.name}_above", above)
                if score is main and compared:
                    verdict = _VERDICTS[above.verdict]
            rows.append({**row, "verdict": verdict})
    return rows


def _all_scores(models: Sequence[AuditedModel]) -> list[Score]:
    return list(dict.fromkeys(score for model in models for score in model.scores))


def _known(runs: Sequence[AuditedRun]) -> Row:
    shares = [asdict(run.known) for run in runs]
    return {key: spread(share[key] for share in shares)[0] for key in asdict(_UNKNOWN)}


def _interval(name: str, found: PairedDifference) -> Row:
    return {name: found.mean, f"{name}_low": found.interval_low, f"{name}_high": found.interval_high}


def _lines(
    rows: Sequence[Row], models: Sequence[AuditedModel], scores: Sequence[Score]
) -> tuple[list[str], list[list[str]]]:
    mains = " or ".join(dict.fromkeys(model.scores[0].header for model in models))
    header = ["Model", "Protocol", "Seeds", "Training images", "Test images", "of a patient trained on"]
    header += ["of an image trained on", *(score.header for score in scores)]
    header += [f"{mains}, interval", "above patient-wise", "Verdict"]
    lines = []
    for row in rows:
        cells = [row["label"], row["protocol"], str(row["seeds"]) if row["seeds"] else "missing"]
        cells += [format_number(row[key], 0) for key in ("training_images", "test_images")]
        cells += [_percent(row[key]) for key in ("of_trained_patients", "of_trained_images")]
        cells += [format_spread(row, score.name, score.digits) for score in scores]
        cells += [format_estimate(row, row["main"]), format_estimate(row, f"{row['main']}_above", 3, "+")]
        lines.append([*cells, row["verdict"] or "–"])
    return header, lines


def _above_lines(rows: Sequence[Row], scores: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    header = ["Model", "Protocol", *(score.header for score in scores)]
    return header, [
        [
            row["label"],
            row["protocol"],
            *(format_estimate(row, f"{score.name}_above", score.digits, "+") for score in scores),
        ]
        for row in rows
    ]


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"


def _about(rows: Sequence[Row], models: Sequence[AuditedModel], copies: Protocol) -> list[str]:
    segments, classifies = (any(model.classifies is each for model in models) for each in (False, True))
    lines = [
        "Scores of images: mean ± standard deviation over seeds; the first of a model again with a 95 % interval that "
        "draws patients and seeds (bootstrap). Its height above the patient-wise one draws patients of both test parts "
        "together, and is not corrected for the number of comparisons. Inflated: that interval is above zero.",
        "Patient-wise: the split that is given, one for all seeds. Image-wise: as many images of each label in each "
        "part, drawn at random, whosever they are, anew for each seed. Augment-then-split: all images and changed "
        f"copies of them, {copies.expand_to:,} with as many of each label, are divided at random, anew for each seed: "
        f"{copies.train:,} to train on, a quarter of the others to validate and the rest to test. Trained on: in "
        "training or validation.",
    ]
    if segments:
        lines.append(
            "Networks that segment train on as many images under each protocol, drawn from the part where it holds "
            "more, and change them while training as their recipe says, the same under all three: the copies of "
            "augment-then-split were made before."
        )
    if classifies:
        lines.append(
            "Sensitivity, specificity and accuracy are at the threshold that each run found on its validation part. "
            "Classifiers whose recipe makes copies make them of training images alone; with augment-then-split, whose "
            "images hold copies already, they make none."
        )
    lines.append(
        "What else differs: the training images of augment-then-split come from nearly every image of the set, not "
        "from its training part, and its copies are changed as whole pictures, before a lesion is cut out; its test "
        "part holds as many of each label, and copies too, which may be harder; and its test and validation parts are "
        f"of other sizes.{_unequal(rows, models)}"
    )
    lines.append("The last two protocols are here to show what leaks: their scores say nothing of new patients.")
    return lines


def _unequal(rows: Sequence[Row], models: Sequence[AuditedModel]) -> str:
    """Names the models that do not train on as many images under each protocol."""
    sizes: dict[str, set[float]] = {model.label: set() for model in models}
    for row in rows:
        if not math.isnan(row["training_images"]):
            sizes[row["label"]].add(row["training_images"])
    unequal = [label for label, found in sizes.items() if len(found) > 1]
    if not unequal:
        return ""
    return f" Nor are the numbers of training images equal for {'; '.join(unequal)}: see the table."
