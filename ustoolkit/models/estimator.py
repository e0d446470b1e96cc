"""A classifier of features that was chosen, used and kept in a run folder; read back without pickle."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skops.io
from scipy.special import expit
from sklearn.base import ClassifierMixin
from sklearn.pipeline import Pipeline

from ustoolkit.errors import DataError, RunError, ShapeError
from ustoolkit.files import read_json, write_bytes, write_json

ESTIMATOR_FILE = "estimator.skops"
DESCRIPTION_FILE = "estimator.json"
# Of scikit-learn itself. skops asks about compiled and private types; everything else must be on its own list.
_TRUSTED = [
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
]
_REMEDY = "Train again, or copy the run folder anew."


@dataclass(frozen=True, eq=False)
class ChosenEstimator:
    """A classifier of features, as `choose_estimator` found it.

    Attributes:
        name: of the candidate, or 'mean' for the average of all candidates.
        parameters: those that the inner cross-validation chose; for 'mean' those of each candidate by its name.
        scores: ROC AUC of each candidate with its best parameters, mean over the inner folds.
        out_of_fold: float64 (n, labels), probabilities of the training images by models that knew nothing of their
            patient; NaN for rows that were made, and not by the models that `probability` uses.
        labels: names, the positive one last; numbers where none were given.
        feature_names: of the columns, in order; empty where none were given.
        number_of_features: columns that `probability` takes.
        folds: how many inner folds there were.
        preparation: what features go through first, fitted.
        members: fitted classifiers by name; more than one for 'mean'.
        sigmoids: for members whose decisions are no probabilities, float64 (decisions, 2): slope and intercept.
    """

    name: str
    parameters: dict[str, Any]
    scores: dict[str, float]
    out_of_fold: np.ndarray
    labels: tuple[str, ...]
    feature_names: tuple[str, ...]
    number_of_features: int
    folds: int
    preparation: Pipeline
    members: dict[str, ClassifierMixin]
    sigmoids: Mapping[str, np.ndarray]

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of all labels.

        Args:
            features: float (n, number_of_features), the columns that it was trained on, in their order.
        Returns:
            float64 (n, labels), rows sum to 1, the positive label last; (0, labels) for no rows.
        Raises:
            ShapeError: another number of features.
            DataError: a feature is not a finite number.
        """
        rows = np.asarray(features, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.number_of_features:
            raise ShapeError(
                f"features: expected (images, {self.number_of_features}) as in training, found {rows.shape}. "
                "Measure the same features with the same network as in training."
            )
        refuse_not_finite(rows, self.feature_names)
        if not len(rows):
            return np.empty((0, len(self.labels)))
        prepared = self.preparation.transform(rows)
        return np.mean(
            [
                as_probability(raw_outputs(member, prepared), self.sigmoids.get(name))
                for name, member in self.members.items()
            ],
            axis=0,
        )

    def save(self, folder: Path | str) -> None:
        """Writes `estimator.skops` and `estimator.json`, each at once; the second one says that both are whole.

        Args:
            folder: of the run; made where it is missing.
        Raises:
            OutputError: it cannot be written to.
        """
        folder = Path(folder)
        kept = {
            "preparation": self.preparation,
            "members": self.members,
            "sigmoids": dict(self.sigmoids),
            "out_of_fold": self.out_of_fold,
        }
        content = skops.io.dumps(kept, compression=zipfile.ZIP_DEFLATED)
        write_bytes(folder / ESTIMATOR_FILE, content)
        described = {
            "name": self.name,
            "parameters": self.parameters,
            "scores": self.scores,
            "labels": self.labels,
            "feature_names": self.feature_names,
            "number_of_features": self.number_of_features,
            "folds": self.folds,
            "versions": {"scikit-learn": sklearn.__version__, "skops": skops.__version__},
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        write_json(folder / DESCRIPTION_FILE, described)

    @classmethod
    def load(cls, folder: Path | str) -> "ChosenEstimator":
        """Reads what `save` wrote.

        Nothing in the files is run as code: skops rebuilds types of scikit-learn and NumPy and refuses all others.

        Args:
            folder: of the run.
        Raises:
            RunError: a file is missing or damaged, holds other types, or was written with another scikit-learn, whose
                classifiers this one might read wrongly.
        """
        folder = Path(folder)
        described = read_json(folder / DESCRIPTION_FILE, RunError, _REMEDY)
        try:
            written_with = str(described["versions"]["scikit-learn"])
            checksum = described["sha256"]
        except (KeyError, TypeError):
            raise RunError(
                f"{folder / DESCRIPTION_FILE}: expected versions and sha256 as training writes them, found neither or "
                f"one. {_REMEDY}"
            ) from None
        if written_with.split(".")[:2] != sklearn.__version__.split(".")[:2]:
            raise RunError(
                f"{folder / ESTIMATOR_FILE}: expected scikit-learn {written_with}, which wrote it; found "
                f"{sklearn.__version__}. Install scikit-learn=={written_with}, or train again."
            )
        kept = _read(folder / ESTIMATOR_FILE, checksum)
        try:
            return cls(
                name=str(described["name"]),
                parameters=dict(described["parameters"]),
                scores=dict(described["scores"]),
                out_of_fold=np.asarray(kept["out_of_fold"]),
                labels=tuple(described["labels"]),
                feature_names=tuple(described["feature_names"]),
                number_of_features=int(described["number_of_features"]),
                folds=int(described["folds"]),
                preparation=kept["preparation"],
                members=dict(kept["members"]),
                sigmoids=dict(kept["sigmoids"]),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise RunError(
                f"{folder / DESCRIPTION_FILE}: expected a classifier's description as training writes it; "
                f"{problem!r} is missing or of another kind. {_REMEDY}"
            ) from None


def raw_outputs(estimator: ClassifierMixin, prepared: np.ndarray) -> np.ndarray:
    """What a fitted classifier says before a sigmoid.

    Args:
        estimator: of scikit-learn, with `predict_proba` or else `decision_function`.
        prepared: float64 (n, d).
    Returns:
        float64 (n, labels) of probabilities; or of decisions, (n, 1) where there are two labels.
    """
    if hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict_proba(prepared), np.float64)
    return np.asarray(estimator.decision_function(prepared), np.float64).reshape(len(prepared), -1)


def as_probability(raw: np.ndarray, sigmoids: np.ndarray | None) -> np.ndarray:
    """Turns a classifier's outputs into probabilities.

    Args:
        raw: float64 (n, decisions) from `raw_outputs`.
        sigmoids: float64 (decisions, 2), slope and intercept; None where the outputs are probabilities already.
    Returns:
        float64 (n, labels), rows sum to 1.
    """
    if sigmoids is None:
        return raw
    single = expit(raw * sigmoids[:, 0] + sigmoids[:, 1])
    if single.shape[1] == 1:
        return np.hstack([1 - single, single])
    single = np.maximum(single, np.finfo(np.float64).tiny)  # all may round to 0, far from every label
    return single / single.sum(axis=1, keepdims=True)


def refuse_not_finite(
    features: np.ndarray, feature_names: tuple[str, ...] = (), source_ids: tuple[str, ...] = ()
) -> None:
    """Refuses features that are not finite numbers.

    Args:
        features: float (n, d).
        feature_names: of the columns; empty where they are only numbered.
        source_ids: of the rows; empty where they are only numbered.
    Raises:
        DataError: one is not finite; it names the image and the feature.
    """
    wrong = np.argwhere(~np.isfinite(features))
    if not len(wrong):
        return
    row, column = wrong[0]
    image = f"'{source_ids[row]}'" if source_ids else f"in row {row}"
    feature = f"'{feature_names[column]}'" if feature_names else f"in column {column}"
    others = f", and {len(wrong) - 1} more such values" if len(wrong) > 1 else ""
    raise DataError(
        f"image {image}, feature {feature}: expected a finite number, found {features[row, column]}{others}. "
        "Check the image and its mask, or leave the image out of the split."
    )


def _read(path: Path, checksum: str) -> Mapping[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise RunError(f"{path}: cannot be read ({problem.strerror or problem}). {_REMEDY}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != checksum:
        raise RunError(
            f"{path}: expected SHA-256 {checksum} as in {DESCRIPTION_FILE}, found {found}: one of the two is damaged "
            f"or of another run. {_REMEDY}"
        )
    try:
        kept = skops.io.load(io.BytesIO(content), trusted=_TRUSTED)
    except Exception as problem:  # skops and scikit-learn raise what they meet in a file that others wrote
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise RunError(
            f"{path}: expected classifiers of scikit-learn as training writes them, found something else ({reason}). "
            f"{_REMEDY}"
        ) from None
    if not isinstance(kept, dict):
        raise RunError(f"{path}: expected a table of classifiers, found {type(kept).__name__}. {_REMEDY}")
    return kept
