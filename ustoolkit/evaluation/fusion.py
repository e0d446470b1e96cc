"""One probability from those of several networks, by weights that are found on images they were not trained on."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.evaluation.probabilities import SMALLEST_PROBABILITY, checked_labels, checked_rows, group_members
from ustoolkit.evaluation.roc import auc_covariance

How = Literal["equal", "auc", "simplex", "stacked"]
_STRENGTHS = (1.0, 0.01, 0.1, 10.0, 100.0)  # C of scikit-learn, its own default first, so that it wins a tie
_FOLDS = 5


@dataclass(frozen=True)
class Fusion:
    """How the probabilities of several runs become one; made by `fit_fusion`.

    Attributes:
        how: equal, auc, simplex or stacked.
        runs, labels: how many of each it was fitted for.
        weights: float (runs,), 0 or more, adding up to 1; empty for 'stacked'.
        coefficients: float (labels − 1, runs × (labels − 1)), 'stacked' only: what each log odds of a run (of
            a label over the first) adds to each fused one; runs one after the other.
        intercepts: float (labels − 1,), 'stacked' only.
    """

    how: How
    runs: int
    labels: int
    weights: tuple[float, ...] = ()
    coefficients: tuple[tuple[float, ...], ...] = ()
    intercepts: tuple[float, ...] = ()

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Fused probabilities.

        Args:
            probabilities: float (runs, n, labels), in the order of runs and labels that it was fitted with.
        Returns:
            float64 (n, labels), each row adding up to 1.
        Raises:
            ShapeError: another number of runs or of labels.
            DataError: a probability is not valid.
        """
        probabilities = _checked_runs(probabilities)
        if probabilities.shape[::2] != (self.runs, self.labels):
            raise ShapeError(
                f"the probabilities have shape {probabilities.shape}; expected {self.runs} runs and {self.labels} "
                "labels, (runs, n, labels). Fuse the runs that the fusion was fitted with."
            )
        if self.how != "stacked":
            return np.tensordot(self.weights, probabilities, axes=1)
        fused = _features(probabilities) @ np.array(self.coefficients).T + np.array(self.intercepts)
        return softmax(np.column_stack([np.zeros(len(fused)), fused]), axis=1)

    def to_json(self) -> dict[str, Any]:
        """As a dict of lists and numbers, which `from_json` reads."""
        return {**asdict(self), "coefficients": [list(row) for row in self.coefficients]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Fusion":
        """The fusion that `to_json` wrote.

        Raises:
            DataError: the content is not such a dict.
        """
        try:
            fusion = cls(
                how=content["how"],
                runs=int(content["runs"]),
                labels=int(content["labels"]),
                weights=tuple(float(weight) for weight in content["weights"]),
                coefficients=tuple(tuple(float(number) for number in row) for row in content["coefficients"]),
                intercepts=tuple(float(number) for number in content["intercepts"]),
            )
            others, stacked = fusion.labels - 1, fusion.how == "stacked"
            shapes_fit = (
                len(fusion.weights) == (0 if stacked else fusion.runs)
                and len(fusion.intercepts) == len(fusion.coefficients) == (others if stacked else 0)
                and all(len(row) == fusion.runs * others for row in fusion.coefficients)
            )
            numbers = (*fusion.weights, *fusion.intercepts, *(number for row in fusion.coefficients for number in row))
        except (KeyError, TypeError, ValueError) as problem:
            raise DataError(f"a stored fusion cannot be read ({problem!r}). Fit it again.") from None
        if fusion.how not in get_args(How) or others < 1 or not shapes_fit or not np.isfinite(numbers).all():
            raise DataError("a stored fusion does not fit together: unknown form or wrong numbers. Fit it again.")
        return fusion


def fit_fusion(probabilities: np.ndarray, truth: np.ndarray, how: How, groups: np.ndarray | None = None) -> Fusion:
    """Finds how to fuse several runs on images that none of them was trained on.

    equal: the mean. auc: weights in proportion to how far each run's area under the ROC curve of the positive label is
    above 0.5; runs at or below it get none, and all get the same where no run is above it. simplex: the weights, 0 or
    more and adding up to 1, with the lowest log loss. stacked: logistic regression on the runs' log odds, as in
    Wolpert, "Stacked generalization" (Neural Networks, 1992); its L2 penalty is chosen by cross-validation, by
    patient, where each label has patients enough, else it is scikit-learn's own.

    Args:
        probabilities: float (runs, n, labels), each row adding up to 1, the positive label last.
        truth: int (n,), the index of each image's label.
        how: the form; 'equal' does not look at the truth.
        groups: (n,) str, the patient of each image, or None; for 'stacked' only.
    Returns:
        what `Fusion.apply` fuses with.
    Raises:
        ShapeError: not (runs, n, labels), or not one label and group for each image.
        DataError: a probability is not valid, `how` is unknown, only one label is there ('auc': no positive or no
            negative image; 'stacked': any label is missing).
    """
    probabilities = _checked_runs(probabilities)
    runs, images, labels = probabilities.shape
    truth = checked_labels(truth, images, labels)
    members, _ = group_members(groups, images)
    if how == "equal":
        return Fusion(how, runs, labels, (1 / runs,) * runs)
    if how not in get_args(How):
        raise DataError(f"fusion '{how}' is unknown; expected one of {', '.join(get_args(How))}. Choose one of these.")
    _check_labels_present(how, truth, labels)
    if how == "stacked":
        coefficients, intercepts = _stacked(_features(probabilities), truth, labels, members)
        rows = tuple(tuple(float(number) for number in row) for row in coefficients)
        return Fusion(how, runs, labels, (), rows, tuple(float(number) for number in intercepts))
    weights = _auc_weights(probabilities, truth) if how == "auc" else _simplex_weights(probabilities, truth)
    return Fusion(how, runs, labels, tuple(float(weight) for weight in weights))


def _checked_runs(probabilities: np.ndarray) -> np.ndarray:
    try:
        probabilities = np.asarray(probabilities, np.float64)
    except (TypeError, ValueError):
        raise ShapeError("the runs' probabilities differ in shape. Predict the same images with each run.") from None
    if probabilities.ndim != 3 or not probabilities.shape[0]:
        raise ShapeError(
            f"the probabilities have shape {probabilities.shape}; expected (runs, n, labels) with one run or more. "
            "Stack what each run predicts for the same images."
        )
    for number, rows in enumerate(probabilities, start=1):
        checked_rows(rows, f"probabilities of run {number} of {len(probabilities)}")
    return probabilities


def _check_labels_present(how: str, truth: np.ndarray, labels: int) -> None:
    present = np.bincount(truth, minlength=labels) > 0
    enough = {"auc": present[-1] and present[:-1].any(), "simplex": present.sum() > 1, "stacked": present.all()}
    if not enough[how]:
        raise DataError(
            f"the images that the fusion is fitted on have only the labels {np.flatnonzero(present).tolist()} of "
            f"{labels}, too few for '{how}'. Make the validation part larger, or choose fusion 'equal'."
        )


def _auc_weights(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    areas, _ = auc_covariance(truth == probabilities.shape[2] - 1, probabilities[:, :, -1])
    above = np.maximum(areas - 0.5, 0)
    return above / above.sum() if above.any() else np.full(len(areas), 1 / len(areas))


def _simplex_weights(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    runs = len(probabilities)
    of_truth = np.maximum(probabilities[:, np.arange(len(truth)), truth], SMALLEST_PROBABILITY)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        fused = np.maximum(weights @ of_truth, SMALLEST_PROBABILITY)
        return -float(np.log(fused).mean()), -(of_truth / fused).mean(axis=1)

    found = minimize(
        loss,
        np.full(runs, 1 / runs),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * runs,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 500},
    ).x
    weights = np.maximum(found, 0)
    return weights / weights.sum()


def _features(probabilities: np.ndarray) -> np.ndarray:
    """Log odds of each label over the first: float (n, runs × (labels − 1)), runs one after the other."""
    logarithms = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    over_first = logarithms[:, :, 1:] - logarithms[:, :, :1]
    return np.moveaxis(over_first, 0, 1).reshape(probabilities.shape[1], -1)


def _stacked(
    features: np.ndarray, truth: np.ndarray, labels: int, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    strength = _best_strength(features, truth, labels, members)
    model = _regression(strength, labels).fit(features, truth)
    if labels == 2:
        return model.coef_, model.intercept_
    # The multinomial form has a row for each label, of which only differences count.
    return model.coef_[1:] - model.coef_[0], model.intercept_[1:] - model.intercept_[0]


def _regression(strength: float, labels: int) -> LogisticRegression:
    # The quicker solver is multinomial from scikit-learn 1.6 on only.
    return LogisticRegression(C=strength, solver="newton-cholesky" if labels == 2 else "lbfgs", max_iter=5000)


def _best_strength(features: np.ndarray, truth: np.ndarray, labels: int, members: np.ndarray) -> float:
    folds = min(_FOLDS, *(len(np.unique(members[truth == label])) for label in range(labels)))
    if folds < 2:
        return _STRENGTHS[0]
    # Not shuffled: which patients are together follows from the images alone.
    parts = list(StratifiedGroupKFold(folds).split(features, truth, members))
    if any(len(np.unique(truth[train])) < labels or not len(test) for train, test in parts):
        return _STRENGTHS[0]
    best, least = _STRENGTHS[0], math.inf
    for strength in _STRENGTHS:
        predicted = cross_val_predict(_regression(strength, labels), features, truth, cv=parts, method="predict_proba")
        loss = log_loss(truth, predicted, labels=range(labels))
        if loss < least - 1e-9:
            best, least = strength, loss
    return best
