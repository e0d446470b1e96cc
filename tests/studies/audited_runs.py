"""Small records of any labels and patients, and audited runs on records as they leave them, made without training."""

from dataclasses import dataclass

import numpy as np

from tests.studies.classifiers import scored, write_evaluation
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records import Records, write_records
from ustoolkit.data.sample import Sample
from ustoolkit.evaluation import METRICS
from ustoolkit.evaluation.tables import write_tables
from ustoolkit.files import write_json
from ustoolkit.recipe import DataSetSettings
from ustoolkit.run import Run
from ustoolkit.studies.asked import StudyOptions
from ustoolkit.studies.audit_scores import AuditedRun, KnownShare
from ustoolkit.studies.plan import plan_runs
from ustoolkit.studies.stages import StudyData, prepare_data
from ustoolkit.training.start import draw_images

UNET = """
name = "{name}"
[data]
image_size = [32, 32]
channels = 1
[model]
name = "unet"
widths = [4, 8, 8]
[training]
epochs = 1
batch_size = 4
"""

LESIONS = """
name = "lesions"
[model]
name = "lesion_features"
families = ["shape", "contrast"]
[classification.region]
source = "truth"
[classification.transfer]
form = "bottleneck"
estimators = ["logistic"]
inner_folds = 2
"""


@dataclass(frozen=True)
class Drawn:
    """Loads noise with a square lesion."""

    name: str
    label: str
    patient: str

    def __call__(self):
        image = np.random.default_rng(int(self.name[4:])).integers(0, 255, (48, 48, 1), dtype=np.uint8)
        mask = np.zeros((48, 48), np.uint8)
        mask[14:29, 15:31] = 1
        return Sample(self.name, image, mask, self.label, self.patient)


def drawn_records(folder, labels, patients):
    """Records of images scan00, scan01, … with these labels, and patients."""
    names = [f"scan{number:02}" for number in range(len(labels))]
    entries = [Entry(name, Drawn(name, *of)) for name, *of in zip(names, labels, patients, strict=True)]
    return write_records(entries, folder, DataSetSettings(), workers=1)


def write_recipe(folder, name="small"):
    """The file of a small U-net's recipe."""
    path = folder / f"{name}.toml"
    path.write_text(UNET.format(name=name))
    return str(path)


def write_lesion_recipe(folder):
    """The file of a recipe that measures lesions."""
    path = folder / "lesions.toml"
    path.write_text(LESIONS)
    return str(path)


def segmented(dice, patients, seed=0, known=None):
    """A run with these Dice values, whose HD95 is 10 times what lacks to 1."""
    dice = np.array(dice, float)
    values = {"dice": dice, "hausdorff95_pixel": 10 * (1 - dice), "hausdorff95_penalised_pixel": 10 * (1 - dice)}
    return AuditedRun(seed, np.array(patients), values, None, known or KnownShare(8.0, float(len(dice)), 0.0, 0.0))


def finish_audit(study, records, out, seeds=1, dice=lambda arm, name: 0.7, probability=lambda arm, malignant: 0.5):
    """Every run of an audit: Dice by arm and source id, probability by arm and by whether an image is malignant."""
    options = StudyOptions(records.folder, out, seeds=seeds)
    data = StudyData(options)
    prepare_data(study, options, data)
    write_json(out / "study.json", {"study": study.name})
    for planned in plan_runs(study, options):
        opened = data.of(planned)
        parts = draw_images(opened.splits, planned.recipe.training)
        run = Run.create(planned.folder, planned.recipe, opened.records.manifest, planned.records, parts, [])
        run.update(status="finished", training_seconds=60.0)
        rows = {row.source_id: row for row in Records(planned.records).index}
        tested = [rows[name] for name in opened.splits["test"]]
        if planned.recipe.classifies:
            write_json(planned.folder / "decision.json", {})
            malignant = [row.label == "malignant" for row in tested]
            values = [probability(planned.arm.name, truth) for truth in malignant]
            found = scored(malignant, values, [row.patient_id for row in tested])
            found = type(found)(tuple(row.source_id for row in tested), *list(vars(found).values())[1:])
            write_evaluation(run.evaluation("test"), found)
            continue
        write_tables(run.evaluation("test"), [_row(row, dice(planned.arm.name, row.source_id)) for row in tested], {})


def _row(row, dice):
    identity = {"source_id": row.source_id, "patient_id": row.patient_id, "label": row.label, "class": "lesion"}
    return {**identity, **dict.fromkeys(METRICS, 5.0), "dice": dice, "truth_pixels": 1, "predicted_pixels": 1}
