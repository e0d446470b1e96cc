"""A classifier of features, chosen by cross-validation in the training part; patients are never divided."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from imblearn.over_sampling import RandomOverSampler
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from ustoolkit.data.oversample import border_sampler, refuse_no_border, refuse_too_few
from ustoolkit.errors import DataError, RecipeError
from ustoolkit.models.estimator import ChosenEstimator, as_probability, raw_outputs
from ustoolkit.recipe.classification import BalanceSettings, ClassificationSettings
from ustoolkit.training.estimator_candidates import (
    CANDIDATES,
    Candidate,
    ClassWeight,
    drawn_for,
    fit_sigmoids,
    resolved,
)
from ustoolkit.training.estimator_candidates import preparation as new_preparation
from ustoolkit.training.estimator_part import TrainingPart, checked_part, draw_folds, label_weights

MEAN = "mean"
_MOST_DRAWN = 20  # times the rows; more would only cost time
_NO_SMOTE = "set classification.balance.smote to 'off'"


@dataclass(frozen=True)
class _Fold:
    """One fold, prepared: `rows` and `truth` to train on; `held_out` to predict, whose indices are `test`."""

    preparation: Pipeline
    rows: np.ndarray
    truth: np.ndarray
    held_out: np.ndarray
    test: np.ndarray


def choose_estimator(
    features: np.ndarray,
    truth: np.ndarray,
    groups: np.ndarray,
    settings: ClassificationSettings,
    seed: int,
    made: np.ndarray | None = None,
    feature_names: Sequence[str] | None = None,
    source_ids: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> ChosenEstimator:
    """Chooses a classifier and its hyper-parameters by cross-validation in the training part, then fits it to all.

    The candidates are those that `settings.transfer.estimators` names: logistic regression, a support vector machine
    with a Gaussian kernel, extremely randomised trees, gradient boosting, and a network of one hidden layer. Features
    are standardised before, and above 128 columns reduced to 64 principal components. What is fitted, oversampled or
    weighed, is so within the training side of a fold, so that no copy or mixture of a held-out patient's image is
    trained on.
    The best has the highest ROC AUC, mean over the folds; with several labels it is the mean of one against the rest.

    With more than one candidate there is one more, 'mean': the average of all candidates' probabilities. It is chosen
    only where its AUC is highest. The AUC of the chosen one is a little too good, being the best of several.

    Balancing (`settings.balance`) changes what share of each label the probabilities speak of, alike for all
    candidates. Within a fold, a label without an image on the border gets no synthetic ones.

    Args:
        features: float (n, d), of the training part.
        truth: int64 (n,), indices into the labels, the positive one last.
        groups: str (n,), the patient of each image.
        settings: which candidates, how many folds, how classes are balanced.
        seed: another seed, other folds, trees and first weights; the same seed, the same result.
        made: bool (n,), images that were made from others: trained on, never scored. One whose group has no other
            image in the part mixes patients; it joins the last fit only, since no fold could hold it out.
        feature_names: d names, for messages and the file.
        source_ids: n names of images, for messages.
        labels: names, for messages and the file; numbers up to the highest in `truth` where there are none.
    Returns:
        the classifier, fitted.
    Raises:
        DataError: a feature is not finite, all are constant, or truth is no index of a label.
        RecordsError: a label has no image, is found in fewer than two patients, or in too few images for SMOTE.
        RecipeError: class weights are not one for each label, or too far apart for 'dense'.
        ShapeError: arrays differ in length.
    """
    part = checked_part(features, truth, groups, made, feature_names, source_ids, labels)
    class_weight = _class_weight(settings, part)
    tests = draw_folds(part, settings.transfer.inner_folds, seed)
    # Small matrices: more threads would not be faster, and one adds up in one order.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few epochs are part of the recipe of 'dense'
        if settings.balance.smote == "features":
            _refuse_smote(part, tests)
        everything = np.ones(len(part.rows), bool)
        whole = _prepared(part, everything, np.flatnonzero(part.scored), settings.balance, seed)
        if settings.balance.smote == "features":
            after = Counter(np.array(part.labels)[whole.truth].tolist())
            refuse_no_border(part.counts(everything), after, _NO_SMOTE)
        originals = np.unique(part.groups[part.scored])
        attributed = np.isin(part.groups, originals)
        folds = [
            _prepared(part, attributed & ~np.isin(part.groups, part.groups[test]), test, settings.balance, seed)
            for test in tests
        ]
        weights = label_weights(part, settings.balance)
        names: tuple[str, ...] = tuple(dict.fromkeys(settings.transfer.estimators))
        found = {name: _best(CANDIDATES[name], part, folds, class_weight, weights, seed) for name in names}
        scores = {name: result.score for name, result in found.items()}
        mean = np.mean([result.probability for result in found.values()], axis=0)
        if len(names) > 1:
            scores[MEAN] = _score(part, folds, mean)
        name = max(scores, key=scores.__getitem__)
        members = names if name == MEAN else (name,)
        fitted = {
            member: _fitted(CANDIDATES[member], found[member].parameters, whole, class_weight, seed)
            for member in members
        }
    return ChosenEstimator(
        name=name,
        parameters={n: found[n].parameters for n in members} if name == MEAN else found[name].parameters,
        scores=scores,
        out_of_fold=mean if name == MEAN else found[name].probability,
        labels=part.labels,
        feature_names=() if feature_names is None else tuple(map(str, feature_names)),
        number_of_features=part.rows.shape[1],
        folds=len(folds),
        preparation=whole.preparation,
        members=fitted,
        sigmoids={
            member: fit_sigmoids(found[member].raw[part.scored], part.truth[part.scored], weights)
            for member in members
            if found[member].decides
        },
    )


@dataclass(frozen=True)
class _Result:
    """A candidate with its best parameters; `raw` and `probability` are out of fold, NaN for rows that were made."""

    parameters: dict[str, Any]
    score: float
    raw: np.ndarray
    probability: np.ndarray
    decides: bool


def _best(
    candidate: Candidate,
    part: TrainingPart,
    folds: list[_Fold],
    class_weight: ClassWeight,
    weights: np.ndarray,
    seed: int,
) -> _Result:
    results = []
    for parameters in candidate.grid:
        estimators = [_fitted(candidate, parameters, fold, class_weight, seed) for fold in folds]
        outputs = [raw_outputs(one, fold.held_out) for one, fold in zip(estimators, folds, strict=True)]
        decides = not hasattr(estimators[0], "predict_proba")
        raw = np.full((len(part.rows), outputs[0].shape[1]), np.nan)
        probability = np.full((len(part.rows), len(part.labels)), np.nan)
        for fold, output in zip(folds, outputs, strict=True):
            raw[fold.test] = output
        for fold in folds:
            sigmoids = None
            if decides:  # fitted to the other folds, so that no row has a say in its own probability
                others = part.scored.copy()
                others[fold.test] = False
                sigmoids = fit_sigmoids(raw[others], part.truth[others], weights)
            probability[fold.test] = as_probability(raw[fold.test], sigmoids)
        results.append(_Result(parameters, _score(part, folds, probability), raw, probability, decides))
    return max(results, key=lambda result: result.score)


def _score(part: TrainingPart, folds: list[_Fold], probability: np.ndarray) -> float:
    scores = []
    for fold in folds:
        truth, found = part.truth[fold.test], probability[fold.test]
        if found.shape[1] == 2:
            scores.append(roc_auc_score(truth, found[:, -1]))
        else:
            every = [roc_auc_score(truth == label, found[:, label]) for label in range(found.shape[1])]
            scores.append(np.mean(every))
    return float(np.mean(scores))


def _fitted(
    candidate: Candidate, parameters: dict[str, Any], fold: _Fold, class_weight: ClassWeight, seed: int
) -> ClassifierMixin:
    parameters = resolved(parameters, fold.rows.shape[1])
    fitted = candidate.build(parameters, class_weight, seed).fit(fold.rows, fold.truth)
    return fitted.steps[-1][1] if hasattr(fitted, "steps") else fitted  # a step before it only chose rows to train on


def _prepared(part: TrainingPart, trained: np.ndarray, test: np.ndarray, balance: BalanceSettings, seed: int) -> _Fold:
    rows, truth = part.rows[trained], part.truth[trained]
    if not np.ptp(rows, axis=0).any():
        raise DataError(
            f"features: expected some that differ between images, found all {rows.shape[1]} constant among "
            f"{len(rows)} training images. Check the weights of the network, or the masks."
        )
    preparation = new_preparation(rows, seed)
    rows = preparation.fit_transform(rows)
    if balance.smote == "features":
        rows, truth = border_sampler(seed).fit_resample(rows, truth)
    if balance.sampling == "balanced":
        rows, truth = RandomOverSampler(random_state=seed).fit_resample(rows, truth)
    return _Fold(preparation, rows, truth, preparation.transform(part.rows[test]), test)


def _refuse_smote(part: TrainingPart, tests: list[np.ndarray]) -> None:
    originals = np.isin(part.groups, part.groups[part.scored])
    refuse_too_few(part.counts(np.ones(len(part.rows), bool)), remedy=_NO_SMOTE)
    for number, test in enumerate(tests, start=1):
        trained = originals & ~np.isin(part.groups, part.groups[test])
        place = f"where fold {number} of {len(tests)} of the inner cross-validation is held out"
        refuse_too_few(part.counts(trained), place, _NO_SMOTE)


def _class_weight(settings: ClassificationSettings, part: TrainingPart) -> ClassWeight:
    wanted = settings.balance.class_weights
    if wanted == "equal":
        return None
    if isinstance(wanted, str):
        return wanted
    if len(wanted) != len(part.labels):
        raise RecipeError(
            f"classification.balance.class_weights: expected {len(part.labels)} numbers, for {', '.join(part.labels)}; "
            f"found {len(wanted)}. Give one for each label, or 'equal' or 'balanced'."
        )
    weights = dict(enumerate(wanted))
    drawn = sum(drawn_for(weights)(part.truth).values()) / len(part.truth)
    if "dense" in settings.transfer.estimators and drawn > _MOST_DRAWN:
        raise RecipeError(
            f"classification.balance.class_weights: 'dense' meets weights by drawing images repeatedly, at most "
            f"{_MOST_DRAWN} times as many as there are; these need {drawn:.0f} times. Choose weights closer to each "
            "other, or leave 'dense' out of classification.transfer.estimators."
        )
    return weights
