"""Training without gradients through a network: a scikit-learn classifier on frozen features, or on measurements."""

import csv
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import tee

import numpy as np
import tf_keras as keras
from sklearn.metrics import roc_auc_score

from ustoolkit.data.features import feature_names
from ustoolkit.data.leaks import groups, is_made
from ustoolkit.data.lesion_table import measure_lesions
from ustoolkit.data.lesions import LesionFinder, known_lesions
from ustoolkit.data.records import Records
from ustoolkit.errors import UstoolkitError
from ustoolkit.files import write_text
from ustoolkit.models import build_model
from ustoolkit.models.estimator import ChosenEstimator
from ustoolkit.models.load import load_model
from ustoolkit.recipe.classifiers import LesionFeaturesSettings
from ustoolkit.run import Run
from ustoolkit.training.estimators import choose_estimator
from ustoolkit.training.features import bottleneck_features
from ustoolkit.training.start import give_first_weights
from ustoolkit.training.tasks import read_parts


@dataclass(frozen=True, eq=False)
class _Table:
    """Features of both parts, the training part first: rows to train on, and rows to validate on."""

    train: np.ndarray
    truth: np.ndarray
    groups: np.ndarray
    made: np.ndarray
    source_ids: list[str]
    validation: np.ndarray
    validation_truth: np.ndarray
    names: tuple[str, ...] = ()


def train_classical(
    run: Run,
    records: Records,
    say: Callable[[str], None] | None = None,
    find: LesionFinder | None = None,
) -> ChosenEstimator:
    """Trains a run whose network stays frozen, or that measures lesions; the estimator goes into `RUN/estimator`.

    Out-of-fold probabilities of the training images go into `RUN/out_of_fold.csv`: what the classifier says of patients
    that it was not trained on, to calibrate it by.

    Args:
        run: the folder with recipe and splits.
        records: what to train on.
        say: called with each line on what was chosen; None for silence.
        find: where the lesions to classify are; None for where the data set says.
    Returns:
        the classifier.
    Raises:
        RecordsError, DataError: images cannot be trained on.
        RecipeError: weights to start from do not fit.
    """
    started = time.perf_counter()
    recipe, say = run.recipe, say or (lambda line: None)
    find = find or known_lesions(recipe.classification.region)
    keras.utils.set_random_seed(recipe.training.seed)
    try:
        if isinstance(recipe.model, LesionFeaturesSettings):
            table = _measured(run, records, find, recipe.model.families)
        else:
            table = _features(run, records, find, say)
        chosen = choose_estimator(
            table.train,
            table.truth,
            table.groups,
            recipe.classification,
            recipe.training.seed,
            made=table.made,
            feature_names=table.names or None,
            source_ids=table.source_ids,
            labels=run.labels,
        )
    except UstoolkitError:
        if run.state["status"] == "started":
            run.discard()
        raise
    chosen.save(run.estimator)
    _write_out_of_fold(run, table, chosen)
    positive = chosen.probability(table.validation)[:, -1]
    auc = roc_auc_score(table.validation_truth == len(run.labels) - 1, positive)
    tried = ", ".join(f"{name} {score:.3f}" for name, score in chosen.scores.items())
    say(f"chosen by cross-validation in the training part: {chosen.name} (AUC of each: {tried})")
    run.update(
        status="finished",
        estimator={"name": chosen.name, "inner_auc": {name: round(auc, 6) for name, auc in chosen.scores.items()}},
        training_images=len(table.truth),
        best_validation_auc=round(float(auc), 6),
        training_seconds=round(time.perf_counter() - started, 1),
    )
    return chosen


def _measured(run: Run, records: Records, find: LesionFinder, families: Sequence[str]) -> _Table:
    """Measurements of lesions."""
    rows = {row.source_id: row for row in records.index}
    group_of = groups(records.index)
    tables, names = [], []
    for part in ("train", "validation"):
        samples, again = tee(records.read(run.splits[part]))
        tables.append(measure_lesions(samples, find(again), families, len(run.splits[part])))
        wanted = set(run.splits[part])
        names.append([row.source_id for row in records.index if row.source_id in wanted])
    truth = [np.array([run.labels.index(rows[name].label) for name in part]) for part in names]
    patients = np.array([group_of[rows[name].patient_id] for name in names[0]])
    made = np.array([is_made(rows[name]) for name in names[0]])
    return _Table(tables[0], truth[0], patients, made, names[0], tables[1], truth[1], feature_names(families))


def _features(run: Run, records: Records, find: LesionFinder, say: Callable[[str], None]) -> _Table:
    """Features of a frozen network, which is kept as the run's weights."""
    if run.best_weights.is_file():  # resumed: features that are there already are of these weights
        model = load_model(run)
    else:
        model = build_model(run.recipe, len(run.labels))
        for line in give_first_weights(model, run):
            say(line)
        unfinished = run.best_weights.with_name(f"unfinished-{run.best_weights.name}")
        model.save_weights(unfinished)
        unfinished.replace(run.best_weights)
    train, validation = read_parts(run, records, find)
    return _Table(
        bottleneck_features(model, train, run, "train"),
        train.truth,
        train.groups,
        train.made,
        train.source_ids,
        bottleneck_features(model, validation, run, "validation"),
        validation.truth,
    )


def _write_out_of_fold(run: Run, table: _Table, chosen: ChosenEstimator) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["source_id", "label", *run.labels])
    for name, index, row in zip(table.source_ids, table.truth, chosen.out_of_fold, strict=True):
        if np.isfinite(row).all():
            writer.writerow([name, run.labels[index], *(float(value) for value in row)])
    write_text(run.folder / "out_of_fold.csv", stream.getvalue())
