"""Images that a study prepares: made once, with nothing changed but what the steps change."""

import numpy as np
import pytest

from tests.studies.runs import SETTINGS, finish_all, options, silent
from ustoolkit.data.clean import clean_sample
from ustoolkit.data.records import Records, record_entries
from ustoolkit.data.split import read_splits
from ustoolkit.errors import RecordsError
from ustoolkit.recipe.data_set import CleanSettings
from ustoolkit.studies.comparison import Arm, Comparison, Preparation, Study
from ustoolkit.studies.image_sets import prepare_images
from ustoolkit.studies.plan import plan_runs
from ustoolkit.studies.runner import run_study
from ustoolkit.studies.stages import commands_of

SMOOTH = Preparation("smooth", ("smooth",))
OPEN = Preparation("open", ("bright", "open"))


@pytest.fixture(scope="module")
def given(records):
    return read_splits(records.folder / "splits.json", records)


@pytest.fixture(scope="module")
def out(records, given, tmp_path_factory):
    """A study's folder with both preparations."""
    folder = tmp_path_factory.mktemp("prepared")
    for preparation in (SMOOTH, OPEN):
        prepare_images(preparation, records, given, folder, workers=1)
    return folder


def prepared_study(steps=SMOOTH.steps):
    settings = (*SETTINGS, "training.epochs=1")
    return Study(
        "prepared",
        "what preparation does",
        (Arm("plain", "demo", settings), Arm("plain-smooth", "demo", settings, images="smooth")),
        (Comparison("preparation", "Preparation", (("as they are", "plain"), ("smoothed", "plain-smooth"))),),
        preparations=(Preparation("smooth", steps),),
    )


def loaded(records):
    return {entry.source_id: entry.load() for entry in record_entries(records)}


@pytest.mark.parametrize("preparation", [SMOOTH, OPEN], ids=lambda each: each.name)
def test_images_are_as_cleaning_makes_them_and_all_else_stays(records, given, out, preparation):
    made = Records(out / "preparations" / preparation.name)
    wanted = {name for names in given.values() for name in names}
    before, after = loaded(records), loaded(made)
    assert set(after) == wanted and read_splits(made.folder / "splits.json", made) == given
    changed = 0
    for name, sample in after.items():
        other = before[name]
        np.testing.assert_array_equal(sample.image, clean_sample(other, CleanSettings(steps=preparation.steps)).image)
        assert sample.image.shape == other.image.shape
        np.testing.assert_array_equal(sample.mask, other.mask)
        assert (sample.patient_id, sample.label, sample.attributes) == (
            other.patient_id,
            other.label,
            other.attributes,
        )
        changed += bool((sample.image != other.image).any())
    assert changed == len(wanted)
    assert made.manifest["classes"] == records.manifest["classes"]


def test_they_are_made_once(records, given, out):
    files = lambda: {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}  # noqa: E731
    before = files()
    made = prepare_images(SMOOTH, records, given, out, workers=1)
    assert files() == before and made.folder == out / "preparations" / "smooth"


@pytest.mark.parametrize(
    ("preparation", "fewer"), [(Preparation("smooth", ("smooth", "open")), 0), (SMOOTH, 1)], ids=["steps", "images"]
)
def test_what_was_made_otherwise_is_refused(records, given, out, preparation, fewer):
    asked = {**given, "test": given["test"][fewer:]}
    with pytest.raises(RecordsError, match=r"smooth: expected images prepared as the study says, found others.*--out"):
        prepare_images(preparation, records, asked, out, workers=1)


def test_what_was_interrupted_is_made_again(records, given, out, tmp_path):
    import shutil

    shutil.copytree(out / "preparations", tmp_path / "preparations")
    (tmp_path / "preparations" / "smooth" / "splits.json").unlink()  # which is written last
    (tmp_path / "preparations" / "smooth" / "manifest.json").write_text("{")
    made = prepare_images(SMOOTH, records, given, tmp_path, workers=1)
    assert made.digest == Records(out / "preparations" / "smooth").digest


def test_arms_of_prepared_images_are_trained_and_scored_on_them(records, tmp_path):
    study, asked = prepared_study(), options(records, tmp_path / "study", seeds=1)
    plain, smooth = plan_runs(study, asked)
    assert plain.recipe == smooth.recipe and plain.records == records.folder
    assert smooth.records == asked.out / "preparations" / "smooth"
    assert smooth.splits == records.folder / "splits.json"
    for command in commands_of(smooth, "absent", asked):
        assert command[command.index("--records") + 1] == str(smooth.records)
    finish_all(study, asked, records, lambda arm, seed, name: 0.6 if arm == "plain" else 0.7)
    result = run_study(study, asked, silent)
    assert {run["status"] for run in result["runs"].values()} == {"finished"}
    assert result["tables"]["preparation"][1]["difference"] == pytest.approx(0.1)
    with pytest.raises(RecordsError, match="found others"):
        run_study(prepared_study(("open",)), asked, silent)


def test_folds_divide_prepared_images_as_the_others(records, tmp_path):
    study, asked = prepared_study(), options(records, tmp_path / "study", seeds=1, folds=2)
    finish_all(study, asked, records, lambda arm, seed, name: 0.5)
    by_arm = {}
    for run in plan_runs(study, asked):
        by_arm.setdefault(run.fold, set()).add(run.splits)
    assert by_arm == {fold: {asked.out / "folds" / f"fold{fold}.json"} for fold in (1, 2)}
    row = run_study(study, asked, silent)["tables"]["preparation"][1]
    assert row["runs"] == 2 and row["images_compared"] == len(records.index)
