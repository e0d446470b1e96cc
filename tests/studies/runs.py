"""Toy studies, and run folders as their runs leave them, made by hand without training."""

from dataclasses import replace

from ustoolkit.evaluation import METRICS
from ustoolkit.evaluation.tables import write_tables
from ustoolkit.run import Run
from ustoolkit.studies.comparison import Arm, Comparison, Study
from ustoolkit.studies.plan import StudyOptions, open_data, plan_runs

SETTINGS = (
    "data.image_size=[32,32]",
    "data.channels=1",
    "model.widths=[4,8,8]",
    "training.batch_size=4",
    "training.minutes=0",
    "training.learning_rate=0.01",
)


def toy_study(long_epochs=3):
    """Two arms that differ in their epochs."""
    return Study(
        "toy",
        "how long to train",
        (
            Arm("long", "demo", (*SETTINGS, f"training.epochs={long_epochs}")),
            Arm("short", "demo", (*SETTINGS, "training.epochs=1")),
        ),
        (Comparison("lengths", "Length of training", (("many", "long"), ("one", "short")), by_size=True),),
    )


def options(records, out, **changes):
    return replace(StudyOptions(records.folder, out, seeds=2, jobs=2), **changes)


def finish(planned, records, dice, status="finished", scored=True):
    """A run folder whose test images have the Dice values `dice(source_id)`."""
    data = open_data(StudyOptions(records.folder, planned.folder))
    run = Run.create(planned.folder, planned.recipe, records.manifest, records.folder, data.splits, [])
    run.update(status=status, training_seconds=120.0, trainable_weights=4321)
    patients = {row.source_id: row.patient_id for row in records.index}
    rows = [
        {
            "source_id": source_id,
            "patient_id": patients[source_id],
            "label": "",
            "class": "lesion",
            **dict.fromkeys(METRICS, 5.0),
            "dice": dice(source_id),
            "truth_pixels": 1,
            "predicted_pixels": 1,
        }
        for source_id in data.splits["test"]
    ]
    if scored:
        write_tables(run.evaluation("test"), rows, {})
    return run


def finish_all(study, asked, records, dice):
    """Every run of a study, with the Dice values `dice(arm, seed, source_id)`."""
    for planned in plan_runs(study, asked):
        finish(planned, records, lambda name, planned=planned: dice(planned.arm.name, planned.seed, name))
