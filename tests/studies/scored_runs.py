"""Run folders with scores made by hand, as `ustoolkit evaluate` leaves them, without training."""

from ustoolkit.evaluation import METRICS
from ustoolkit.evaluation.tables import write_tables
from ustoolkit.recipe import load_recipe
from ustoolkit.run import Run

SMALL = ("data.image_size=[32,32]", "data.channels=1", "model.widths=[4,8,8]")


def scored_run(folder, records, scores, seed=0, part="test", changes=(), settings=None):
    """A run whose images score what is given of each.

    Args:
        scores: by source id the Dice, or a dict of metrics; a list of them where there are several classes. What is not
            given is 0.5.
        settings: of the evaluation; None for the records' own.
    """
    recipe = load_recipe("demo", [*SMALL, f"training.seed={seed}", *changes])
    run = Run.create(folder, recipe, records.manifest, records.folder, {"test": list(scores)}, [])
    known = {row.source_id: row for row in records.index}
    rows = [
        {
            "source_id": name,
            "patient_id": known[name].patient_id,
            "label": known[name].label,
            "class": f"lesion {number}",
            **dict.fromkeys(METRICS, 0.5),
            **(given if isinstance(given, dict) else {"dice": given}),
            "truth_pixels": 1,
            "predicted_pixels": 1,
        }
        for name, of_image in scores.items()
        for number, given in enumerate(of_image if isinstance(of_image, list) else [of_image])
    ]
    own = {"records": str(records.folder), "records_digest": records.digest}
    write_tables(run.evaluation(part), rows, own if settings is None else settings)
    return run
