"""Classifiers trained for moments on phantoms, each once for all tests; nothing may change their folders."""

import functools
from pathlib import Path

from ustoolkit.data.lesions import known_lesions
from ustoolkit.data.phantom import write_phantoms
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.records import Records, write_records
from ustoolkit.data.split import split_patients, write_splits
from ustoolkit.inference.decide import decide
from ustoolkit.recipe import DataSetSettings, Recipe, load_recipe
from ustoolkit.run import Run
from ustoolkit.training.classical import train_classical
from ustoolkit.training.start import start_run
from ustoolkit.training.trainer import train

NETWORK = (
    "data.image_size=[32,32]",
    "data.channels=1",
    "model.name=densenet161",
    "model.growth_rate=4",
    "model.blocks=[2,2]",
    "model.initial_filters=8",
    "classification.balance.expand_to=0",
    "training.epochs=3",
    "training.batch_size=8",
    "training.learning_rate=0.01",
    "training.strategy=one",
)
FINE_TUNING = (
    "lymph_node_densenet161",
    (
        *NETWORK,
        "training.optimizer=adam",
        "classification.transfer.head_epochs=3",
        "classification.transfer.open_layers=all",
    ),
)
BOTTLENECK = (
    "lymph_node_densenet161_bottleneck",
    (
        *NETWORK,
        "classification.transfer.estimators=['logistic']",
        "classification.transfer.inner_folds=2",
        "classification.balance.expand_to=60",
        "classification.balance.smote=features",
    ),
)
MEASURES = (
    "lesion_features",
    (
        "model.families=['shape','contrast']",
        "classification.transfer.estimators=['logistic']",
        "classification.transfer.inner_folds=2",
    ),
)


def recipe_of(form: tuple[str, tuple[str, ...]], *changes: str) -> Recipe:
    """A tiny recipe, changed."""
    return load_recipe(form[0], [*form[1], *changes])


def words_of(form: tuple[str, tuple[str, ...]], *changes: str) -> list[str]:
    """The same for the command line: the recipe's name, and its settings."""
    return [form[0], *(word for setting in (*form[1], *changes) for word in ("--set", setting))]


@functools.cache
def phantom_records(folder: Path) -> Records:
    """Phantoms with a split: enough of each label for every part, few enough to be measured in one process."""
    settings = DataSetSettings()
    images = write_phantoms(folder / "labelled-images", 54, seed=3, size=(64, 64))
    made = write_records(open_data_set(images, settings), folder / "labelled", settings, workers=1)
    write_splits(made.folder / "splits.json", split_patients(made.index, test=0.25, validation=0.25), {})
    return made


@functools.cache
def trained(records: Records, form: tuple[str, tuple[str, ...]], *changes: str) -> Run:
    """A finished run with its decision; asked for again, the same folder."""
    recipe = recipe_of(form, *changes)
    name = "-".join([form[0], *(change.replace("/", "_") for change in changes)])
    run = start_run(recipe, records, records.folder.parent / "classifiers" / name)
    return finished(run, records)


def finished(run: Run, records: Records) -> Run:
    """Trains a run to its end."""
    find = known_lesions(run.recipe.classification.region)
    frozen = run.recipe.model.name == "lesion_features" or run.recipe.classification.transfer.form == "bottleneck"
    if frozen:
        train_classical(run, records, find=find)
    else:
        train(run, records, find=find)
    decide(run, records, find)
    return run
