"""The classifiers of features that are tried, what features go through first, and sigmoids for decisions.

Sigmoids after Platt, "Probabilistic outputs for support vector machines", 1999.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import Pipeline as ResamplingPipeline
from scipy.special import logit
from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

COMPONENTS = 64  # of features that are wider than WIDE so many principal components are kept
WIDE = 128
_STEEPEST = 6.0  # log odds that a standard deviation of the decisions may change
ClassWeight = None | str | Mapping[int, float]


@dataclass(frozen=True)
class Candidate:
    """A kind of classifier and the hyper-parameters that are tried.

    Attributes:
        build: (parameters, class weight, seed) → a classifier to fit; one that ends in probabilities or in decisions.
        grid: parameters, the ones that fit least closely first, since the first wins a tie. 'gamma' of a kernel is
            divided by the number of columns.
    """

    build: Callable[[dict[str, Any], ClassWeight, int], ClassifierMixin]
    grid: tuple[dict[str, Any], ...]


def _logistic(parameters: dict[str, Any], class_weight: ClassWeight, seed: int) -> ClassifierMixin:
    return LogisticRegression(**parameters, class_weight=class_weight, max_iter=2000, random_state=seed)


def resolved(parameters: dict[str, Any], columns: int) -> dict[str, Any]:
    """Parameters for features of so many columns: a kernel's gamma is told for one."""
    return {**parameters, "gamma": parameters["gamma"] / columns} if "gamma" in parameters else parameters


def _svm(parameters: dict[str, Any], class_weight: ClassWeight, seed: int) -> ClassifierMixin:
    # Its own probabilities come from folds that divide patients.
    return SVC(**parameters, kernel="rbf", class_weight=class_weight, decision_function_shape="ovr", random_state=seed)


def _forest(parameters: dict[str, Any], class_weight: ClassWeight, seed: int) -> ClassifierMixin:
    return ExtraTreesClassifier(200, **parameters, class_weight=class_weight, n_jobs=1, random_state=seed)


def _boosting(parameters: dict[str, Any], class_weight: ClassWeight, seed: int) -> ClassifierMixin:
    # Stopping early would hold out rows whose patients it trains on. With class weights, each bin costs time.
    return HistGradientBoostingClassifier(
        **parameters, max_iter=100, max_bins=63, early_stopping=False, class_weight=class_weight, random_state=seed
    )


def _dense(parameters: dict[str, Any], class_weight: ClassWeight, seed: int) -> ClassifierMixin:
    network = MLPClassifier((32,), **parameters, max_iter=150, early_stopping=False, random_state=seed)
    if class_weight is None:
        return network
    draw = RandomOverSampler(sampling_strategy=drawn_for(class_weight), random_state=seed)
    return ResamplingPipeline([("draw", draw), ("network", network)])


CANDIDATES: dict[str, Candidate] = {
    "logistic": Candidate(_logistic, tuple({"C": c} for c in (0.001, 0.01, 0.1, 1.0, 10.0))),
    # Wide kernels suit correlated measurements: the widest is nearly linear.
    "svm": Candidate(_svm, tuple({"C": c, "gamma": g} for g in (0.03, 0.1, 1.0) for c in (0.3, 3.0, 30.0))),
    "forest": Candidate(_forest, tuple({"min_samples_leaf": rows} for rows in (8, 2))),
    "boosting": Candidate(_boosting, tuple({"max_leaf_nodes": leaves, "learning_rate": 0.1} for leaves in (4, 15))),
    "dense": Candidate(_dense, tuple({"alpha": alpha} for alpha in (10.0, 1.0, 0.01))),
}


def drawn_for(class_weight: ClassWeight) -> Callable[[np.ndarray], dict[int, int]]:
    """Rows of each label to draw so that numbers stand for weights, for a classifier that takes none.

    No row is left out: the label of the smallest weight keeps its rows, the others are drawn repeatedly.

    Args:
        class_weight: 'balanced', or a positive number for each label.
    Returns:
        a function from truth, int (n,), to the number of rows of each label.
    """

    def numbers(truth: np.ndarray) -> dict[int, int]:
        counts = Counter(np.asarray(truth).tolist())
        if not isinstance(class_weight, Mapping):
            return dict.fromkeys(counts, max(counts.values()))
        smallest = min(class_weight[label] for label in counts)
        return {label: round(count * class_weight[label] / smallest) for label, count in counts.items()}

    return numbers


def preparation(rows: np.ndarray, seed: int) -> Pipeline:
    """What features go through before a classifier: constant ones go, the rest are standardised and, if many, reduced.

    Args:
        rows: float64 (n, d) to be fitted to, with at least one column that varies.
        seed: of the randomised decomposition.
    Returns:
        an unfitted pipeline to at most `WIDE` columns.
    """
    steps: list[tuple[str, Any]] = [("varying", VarianceThreshold()), ("scale", StandardScaler())]
    varying = int((np.ptp(rows, axis=0) > 0).sum())
    if varying > WIDE:
        components = min(COMPONENTS, len(rows) - 1)
        steps.append(("components", PCA(components, svd_solver="randomized", random_state=seed)))
    return Pipeline(steps)


def fit_sigmoids(decisions: np.ndarray, truth: np.ndarray, label_weights: np.ndarray) -> np.ndarray:
    """Sigmoids from decisions to probabilities, for decisions about rows that the classifier did not see.

    One that would fall is made flat, at the label's share: there the decisions say nothing about the label.

    Args:
        decisions: float64 (n, 1) for two labels, else (n, labels).
        truth: int64 (n,).
        label_weights: float64 (labels,), what a row of each label counts.
    Returns:
        float64 (decisions, 2), slope and intercept.
    """
    found = []
    for column, decision in enumerate(decisions.T):
        positive = truth == (1 if decisions.shape[1] == 1 else column)
        # Platt's targets lie a little inside 0 and 1, so that labels without overlap get a finite slope.
        target = np.where(positive, (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2))
        weight = label_weights[truth]
        twice = np.concatenate([decision, decision])[:, np.newaxis]
        is_positive = np.repeat([1, 0], len(truth))
        weights = np.concatenate([weight * target, weight * (1 - target)])
        fitted = LogisticRegression(C=1e6, max_iter=1000).fit(twice, is_positive, sample_weight=weights)
        slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
        # The last fit's decisions lie a little beside those of the folds; a step would give all one probability.
        gentler = min(1.0, _STEEPEST / max(slope * float(np.std(decision)), _STEEPEST))
        slope, intercept = slope * gentler, intercept * gentler
        if slope <= 0:
            slope, intercept = 0.0, float(logit((weight * target).sum() / weight.sum()))
        found.append((slope, intercept))
    return np.array(found)
