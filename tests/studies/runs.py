"""Toy studies, and run folders as their runs leave them, made by hand without training."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ustoolkit.data.phantom import write_phantoms
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.records import Records, write_records
from ustoolkit.data.split import read_splits, split_patients, write_splits
from ustoolkit.evaluation import METRICS
from ustoolkit.evaluation.tables import write_tables
from ustoolkit.recipe import DataSetSettings
from ustoolkit.run import Run
from ustoolkit.studies.asked import StudyOptions
from ustoolkit.studies.comparison import CRF, Arm, Comparison, CrfTuning, Ladder, Study
from ustoolkit.studies.plan import plan_runs
from ustoolkit.studies.stages import StudyData, prepare_data

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


def starts_study(epochs=1, pretraining_epochs=1):
    """An arm from scratch and one from a pre-training with another loss, each scored with a CRF too."""
    settings = (*SETTINGS, f"training.epochs={epochs}")
    first = (*SETTINGS, f"training.epochs={pretraining_epochs}", "loss.terms={cross_entropy=1.0}")
    lines = (("scratch", "scratch"), ("scratch, CRF", "scratch" + CRF))
    lines += (("started", "started"), ("started, CRF", "started" + CRF))
    return Study(
        "starts",
        "where to start from",
        (
            Arm("scratch", "demo", settings),
            Arm("started", "demo", (*settings, "model.widths=[4,8,12]"), pretraining="other"),
        ),
        (
            Comparison("crf", "CRF", lines, True, {"scratch" + CRF: "scratch", "started" + CRF: "started"}),
            Comparison("starts", "Start", (lines[0], lines[2])),
        ),
        (Arm("other", "demo", first),),
        CrfTuning(trials=2, images=3),
    )


def ladder_study(epochs=1, steps=3):
    """Some of three steps beside two arms; from the first to the second the rate is changed, then the loss."""
    settings = (*SETTINGS, f"training.epochs={epochs}")
    rungs = (
        Arm("ladder-default", "demo", settings),
        Arm("ladder-slow", "demo", ("training.learning_rate=1e-4",)),
        Arm("ladder-loss", "demo", ("loss.terms={dice=1.0}",)),
    )
    return Study(
        "rungs",
        "step by step",
        (Arm("plain", "demo", (*settings, "model.widths=[4,4,4]")), Arm("wide", "demo", settings)),
        (Comparison("widths", "Width", (("narrow", "plain"), ("wide", "wide"))),),
        ladder=Ladder(rungs[:steps], ("default", "+ slower", "+ Dice loss")[:steps]),
    )


def other_records(folder, count=12, seed=8):
    """Some other phantoms as records with a split; twelve are enough to pre-train on."""
    write_phantoms(folder / "images", count, seed=seed, size=(64, 64))
    settings = DataSetSettings()
    made = write_records(open_data_set(folder / "images", settings), folder / "records", settings, workers=1)
    write_splits(made.folder / "splits.json", split_patients(made.index, test=0.1, validation=0.25), {})
    return made


def options(records, out, **changes):
    return replace(StudyOptions(records.folder, out, seeds=2, jobs=2), **changes)


def finish(planned, records, dice, status="finished", scored=True, crf_gain=0.1, confusion=None, **state):
    """A run folder whose test images have the Dice values `dice(source_id)`, and `crf_gain` more with a CRF."""
    splits = read_splits(planned.splits or records.folder / "splits.json", records)
    run = Run.create(planned.folder, planned.recipe, records.manifest, records.folder, splits, [], overwrite=True)
    run.update(**{"status": status, "training_seconds": 120.0, "trainable_weights": 4321, **state})
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
        for source_id in splits["test"]
    ]
    if scored and not planned.pretraining:
        write_tables(run.evaluation("test"), rows, {}, confusion=confusion)
        if planned.crf:
            more = [{**row, "dice": row["dice"] + crf_gain} for row in rows]
            write_tables(run.evaluation("test-crf"), more, {}, confusion=np.array([[8, 0], [0, 2]]))
    return run


def finish_all(study, asked, records, dice, **state):
    """Every run of a study, with the Dice values `dice(arm, seed, source_id)`, in a folder that is the study's."""
    begin(study, asked)
    for planned in plan_runs(study, asked):
        own = Records(planned.records) if planned.records != records.folder else records
        finish(planned, own, lambda name, planned=planned: dice(planned.arm.name, planned.seed, name), **state)


def begin(study, asked):
    """The study's folder, with folds drawn and images prepared, and no run yet."""
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "study.json").write_text(f'{{"study": "{study.name}"}}')
    prepare_data(study, asked, StudyData(asked, folds=bool(asked.folds or study.folds)))


def tables_of(folder):
    """Content of a study's tables by file; without the list of runs, which says how long each took."""
    paths = [path for ending in ("csv", "md", "tex") for path in folder.glob(f"*.{ending}")]
    return {path.name: path.read_bytes() for path in sorted(paths) if path.name != "runs.csv"}


def processes_of(folder):
    """Ids of living processes whose command names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(folder / "runs") in word for word in command):
            found.append(int(path.parent.name))
    return found


def silent(line, changed):
    """Says nothing of how far a study is."""
