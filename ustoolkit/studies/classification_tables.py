"""The tables of the study of classification, from what its finished runs scored."""

import math
from collections.abc import Mapping, Sequence

from ustoolkit.studies.classification_arms import FUSION_LABELS, LESION_FEATURES, TRANSFERS, NetworkArm
from ustoolkit.studies.classification_rows import (
    PRINTED_SCORES,
    Row,
    Scores,
    effect_rows,
    fusion_rows,
    network_rows,
)
from ustoolkit.studies.classification_scores import check_same_images, read_classifiers, spread
from ustoolkit.studies.comparison import FusionArm, Table
from ustoolkit.studies.stages import FinishedRuns
from ustoolkit.studies.table_files import format_number, format_spread
from ustoolkit.studies.tables import not_there, not_trained


def tabulate_classification(
    finished: FinishedRuns, networks: Sequence[NetworkArm], fusions: Sequence[FusionArm]
) -> list[Table]:
    """The three tables: each network, what is fused, and what each change does.

    Args:
        finished: the runs that are there; they are tested on the same images.
        networks: arms of the study.
        fusions: of the study.
    Raises:
        RunError: an evaluation is damaged, or of other images.
    """
    scores = read_classifiers(finished.runs)
    check_same_images([run for runs in scores.values() for run in runs])
    tables = [_networks(scores, networks), _fusions(scores, networks, fusions), _effects(scores, networks)]
    about = _about(finished, scores)
    return [
        Table(each.name, each.title, each.rows, each.header, each.lines, f"{each.about}\n\n{about}") for each in tables
    ]


def about_runs(finished: FinishedRuns) -> list[str]:
    """What a reader must know of the runs behind a table: whether they are previews, and which are not there."""
    lines = []
    if finished.options.preview:
        lines.append("Previews: small images, no ImageNet weights, short training. To try the study, not to judge by.")
    lines += not_trained(finished.left_out)
    lines += not_there(finished.missing)
    return lines


def format_estimate(row: Row, name: str, digits: int = 3, sign: str = "") -> str:
    """A value of a row with its interval, as 0.912 (0.870 to 0.943); '–' where it is undefined."""
    values = [format_number(row[key], digits, sign) for key in (name, f"{name}_low", f"{name}_high")]
    return values[0] if math.isnan(row[f"{name}_low"]) else f"{values[0]} ({values[1]} to {values[2]})"


def _networks(scores: Scores, networks: Sequence[NetworkArm]) -> Table:
    rows = network_rows(scores, networks)
    header = ["Network", "Transfer", "Images", "SMOTE", "Seeds", "Sensitivity", "Specificity", "Accuracy"]
    header += ["AUC by image", "AUC by patient", "[paper] sensitivity, specificity, accuracy, AUC"]
    lines = []
    for each, row in zip(networks, rows, strict=True):
        cells = [each.network_label, TRANSFERS[each.transfer], f"{each.size:,}", "on" if each.smote else "off"]
        cells += [str(row["seeds"]) if row["seeds"] else "missing"]
        cells += [format_spread(row, name) for name in (*PRINTED_SCORES, "patient_roc_auc")]
        printed = [format_number(row[f"printed_{name}"], 3) for name in PRINTED_SCORES]
        cells += ["–" if "–" in printed else ", ".join(printed)]
        lines.append(cells)
    about = (
        "Sensitivity, specificity and accuracy are by image, at the threshold that each run found on its validation "
        "part; mean ± standard deviation over seeds. The paper's figures are of other, private images (lymph nodes), "
        "divided after they were copied, so that they are a reference and not a peer; it prints them by network and "
        "size alone, and they stand beside each transfer, with and without SMOTE. Its 3,000 images are 2,000 to train "
        "on, its 5,000 are 3,000."
    )
    return Table("networks", "Networks", rows, header, lines, about)


def _fusions(scores: Scores, networks: Sequence[NetworkArm], fusions: Sequence[FusionArm]) -> Table:
    validated = {
        each: spread(run.validation_auc for run in scores[each.name])[0] for each in networks if each.name in scores
    }
    validated = {each: value for each, value in validated.items() if not math.isnan(value)}
    best = max(validated, key=validated.__getitem__, default=None)
    labels = {LESION_FEATURES.name: "lesion features, no network"}
    labels |= {best.name: f"best single network on validation: {best.label}"} if best else {}
    labels |= {fusion.name: FUSION_LABELS.get(fusion.name, fusion.name) for fusion in fusions}
    rows = fusion_rows(scores, labels)
    header = ["Classifier", "Seeds", "AUC by image", "AUC by patient", "Brier score", "Calibration slope"]
    header += [
        "Sensitivity",
        "Specificity",
        "AUC by patient, seeds averaged",
        "Against lesion features",
        "p",
        "Verdict",
    ]
    lines = []
    for row in rows:
        cells = [row["label"], str(row["seeds"]) if row["seeds"] else "missing"]
        cells += [format_estimate(row, name) for name in ("roc_auc", "patient_roc_auc", "brier")]
        cells += [format_estimate(row, "calibration_slope", 2)]
        cells += [format_spread(row, name) for name in ("sensitivity", "specificity")]
        cells += [format_estimate(row, "averaged_auc"), format_estimate(row, "difference", 3, "+")]
        lines.append([*cells, _p(row["p_value"]), row["verdict"] or "–"])
    about = (
        "AUC, Brier score and calibration slope: mean over seeds, with a 95 % interval that draws patients and seeds "
        "(bootstrap). Brier score, slope, sensitivity and specificity are by image. Against lesion features: the areas "
        "by patient of probabilities averaged over seeds, which is one classifier more, tested by DeLong; not "
        "corrected "
        f"for the number of comparisons.\n\n{_best(scores, best, validated, rows, fusions)}"
    )
    return Table("fusions", "Fusions, lesion features and the best network", rows, header, lines, about)


def _effects(scores: Scores, networks: Sequence[NetworkArm]) -> Table:
    rows = effect_rows(scores, networks)
    header = ["Change", "By", "Pairs of arms", "Seeds", "AUC", "Verdict"]
    lines = [
        [
            row["change"],
            row["unit"],
            str(row["pairs"]),
            str(row["seeds"]) if row["seeds"] else "missing",
            format_estimate(
                {**row, "difference_low": row["interval_low"], "difference_high": row["interval_high"]},
                "difference",
                3,
                "+",
            ),
            row["verdict"] or "–",
        ]
        for row in rows
    ]
    about = (
        "Difference of the area under the ROC curve, averaged over all pairs of arms that differ in nothing else, and "
        "over seeds, with a 95 % interval that draws patients, and seeds in pairs (bootstrap; not corrected for the "
        "number of comparisons). Each network is pre-trained once, so that the interval does not hold what another "
        "pre-training would change."
    )
    return Table("effects", "What each change does", rows, header, lines, about)


def _best(
    scores: Scores,
    best: NetworkArm | None,
    validated: Mapping[NetworkArm, float],
    rows: Sequence[Row],
    fusions: Sequence[FusionArm],
) -> str:
    """Names the best network and the best fusion, and says what they were chosen on."""
    lines = []
    if best:
        tested = {each: spread(run.metrics["patient"]["roc_auc"] for run in scores[each.name])[0] for each in validated}
        highest = max(tested, key=tested.__getitem__)
        lines.append(
            f"Best single network, chosen by its AUC on the validation part ({validated[best]:.3f}): {best.label}. "
            f"Highest on the test part by patient ({tested[highest]:.3f}), which flatters it: {highest.label}."
        )
    names = {fusion.name for fusion in fusions}
    found = [row for row in rows if row["arm"] in names and not math.isnan(row["averaged_auc"])]
    if found:
        row = max(found, key=lambda row: row["averaged_auc"])
        lines.append(
            f"Best fusion, chosen on the test part itself, which flatters it: {row['label']}, AUC by patient "
            f"{format_estimate(row, 'averaged_auc')}, {format_estimate(row, 'difference', 3, '+')} against lesion "
            f"features (p {_p(row['p_value'], '= ')})."
        )
    return "\n\n".join(lines)


def _p(value: float, equals: str = "") -> str:
    return "< 0.001" if value < 0.001 else f"{equals}{format_number(value, 3)}"


def _about(finished: FinishedRuns, scores: Scores) -> str:
    lines = []
    if scores:
        tested = next(iter(scores.values()))[0].by
        lines.append(
            f"Test part: {len(tested['image'].names)} images of {len(tested['patient'].names)} patients; "
            f"{finished.options.seeds} seed{'s' if finished.options.seeds > 1 else ''}."
        )
    return "\n\n".join([*lines, *about_runs(finished)])
