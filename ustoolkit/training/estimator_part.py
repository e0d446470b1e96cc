"""What a classifier of features is trained on: rows that are checked, divided into folds and weighed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ustoolkit.errors import DataError, RecordsError, ShapeError
from ustoolkit.models.estimator import refuse_not_finite
from ustoolkit.recipe.classification import BalanceSettings


@dataclass(frozen=True)
class TrainingPart:
    """The training part.

    Attributes:
        rows: float64 (n, d), finite.
        truth: int64 (n,), indices into the labels.
        groups: str (n,), patients.
        scored: bool (n,), False for rows that were made from others.
        labels: two or more, the positive one last.
    """

    rows: np.ndarray
    truth: np.ndarray
    groups: np.ndarray
    scored: np.ndarray
    labels: tuple[str, ...]

    def counts(self, chosen: np.ndarray) -> dict[str, int]:
        """How many of the chosen rows (bool (n,), or indices) each label has."""
        numbers = np.bincount(self.truth[chosen], minlength=len(self.labels))
        return dict(zip(self.labels, numbers.tolist(), strict=True))


def checked_part(
    features: np.ndarray,
    truth: np.ndarray,
    groups: np.ndarray,
    made: np.ndarray | None,
    feature_names: Sequence[str] | None,
    source_ids: Sequence[str] | None,
    labels: Sequence[str] | None,
) -> TrainingPart:
    """Checks what `choose_estimator` is given.

    Args:
        features, truth, groups, made, feature_names, source_ids, labels: as for `choose_estimator`.
    Returns:
        the same, typed.
    Raises:
        ShapeError: arrays differ in length.
        DataError: a feature is not finite, or truth is no index of a label.
        RecordsError: a label has no image, or there is only one.
    """
    rows, truth = np.asarray(features, np.float64), np.asarray(truth)
    scored = np.ones(len(rows), bool) if made is None else ~np.asarray(made, bool)
    number = rows.shape[:1]
    lengths = {"truth": truth.shape, "groups": np.shape(groups), "made": scored.shape}
    columns = tuple(() if feature_names is None else feature_names)
    images = tuple(() if source_ids is None else source_ids)
    if source_ids is not None:
        lengths["source_ids"] = (len(images),)
    for name, length in lengths.items():
        if rows.ndim != 2 or length != number:
            raise ShapeError(
                f"features: expected (images, features) and {name} one for each image, found {rows.shape} and {length}."
                " Give all of them for the same images."
            )
    if feature_names is not None and len(columns) != rows.shape[1]:
        raise ShapeError(
            f"feature_names: expected {rows.shape[1]}, found {len(columns)}. Name each column of the features."
        )
    refuse_not_finite(rows, columns, images)
    names = tuple(map(str, range(int(truth.max(initial=-1)) + 1) if labels is None else labels))
    if truth.dtype.kind not in "iu" or (truth < 0).any() or (truth >= len(names)).any():
        raise DataError(
            f"truth: expected integers from 0 to {len(names) - 1}, indices into {', '.join(names)}; found "
            f"{', '.join(map(str, np.unique(truth)[:5]))} of type {truth.dtype}. Number the labels, "
            "the positive one last."
        )
    part = TrainingPart(rows, truth.astype(np.int64), np.asarray(groups, str), scored, names)
    counts = part.counts(scored)
    missing = [name for name, count in counts.items() if not count]
    if missing or len(names) < 2:
        raise RecordsError(
            f"the training part: expected images of at least 2 labels and of each label, found "
            f"{', '.join(f'{count} {name}' for name, count in counts.items()) or 'none'}. "
            "Draw another split, or add images of the label that is missing."
        )
    return part


def draw_folds(part: TrainingPart, wanted: int, seed: int) -> list[np.ndarray]:
    """Divides the scored rows into folds that divide no patient and hold every label.

    Args:
        part: the training part.
        wanted: folds, at least 2; fewer are drawn where a label would be missing in one.
        seed: another seed, other folds.
    Returns:
        for each fold the indices of the rows that it holds out, int64.
    Raises:
        RecordsError: not even two folds have every label.
    """
    scored = np.flatnonzero(part.scored)
    truth, groups = part.truth[scored], part.groups[scored]
    patients = {label: len(np.unique(groups[truth == index])) for index, label in enumerate(part.labels)}
    rarest = min(patients, key=patients.__getitem__)
    for number in range(min(wanted, patients[rarest]), 1, -1):
        splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
        tests = [scored[test] for _, test in splitter.split(truth, truth, groups)]
        if all(len(np.unique(part.truth[test])) == len(part.labels) for test in tests):
            return tests
    raise RecordsError(
        f"label '{rarest}': choosing a classifier needs each label in both of two folds, which do not divide patients; "
        f"found images of {patients[rarest]} patient{'s'[: patients[rarest] != 1]} with it in the training part. "
        "Add patients with that label, or split with a larger training part."
    )


def label_weights(part: TrainingPart, balance: BalanceSettings) -> np.ndarray:
    """What a scored row of each label counts in a sigmoid, so that it speaks of the shares that classifiers train on.

    Args:
        part: the training part.
        balance: what is done about unequal labels.
    Returns:
        float64 (labels,), of mean 1.
    """
    trained = np.bincount(part.truth, minlength=len(part.labels)).astype(np.float64)
    if balance.sampling == "balanced" or balance.smote == "features" or balance.class_weights == "balanced":
        trained[:] = 1
    if not isinstance(balance.class_weights, str):
        trained *= balance.class_weights
    weights = trained / np.bincount(part.truth[part.scored], minlength=len(part.labels))
    return weights / weights.mean()
