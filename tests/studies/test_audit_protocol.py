"""The audit of protocols: what is trained under each, that sizes compare, what suits the records, and the command."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given as drawn_by
from hypothesis import strategies as st

from tests.studies.audited_runs import drawn_records, finish_audit, write_lesion_recipe, write_recipe
from ustoolkit.cli import main
from ustoolkit.data.expand import plan_copies
from ustoolkit.data.records import IndexRow
from ustoolkit.data.split import read_splits, split_patients, write_splits
from ustoolkit.errors import RecipeError, RecordsError
from ustoolkit.studies.asked import StudyOptions
from ustoolkit.studies.audit_protocol import AUDIT_PROTOCOL, audit_of, copies_first
from ustoolkit.studies.comparison import Protocol
from ustoolkit.studies.plan import plan_runs
from ustoolkit.studies.stages import StudyData, commands_of

PROTOCOLS = ("patient-wise", "image-wise", "augment-then-split")


@pytest.fixture
def given(records):
    return read_splits(records.folder / "splits.json", records)


def index_rows(counts):
    return [
        IndexRow(f"{label}{number}", f"{label}{number}", label, "", 8, 8, 0.1, 1, "")
        for label, count in zip("abcd", counts, strict=False)
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("counts", "expand_to", "train"),
    [((760, 363), 3000, 2000), ((30, 24), 432, 288), ((2500, 1500), 8000, 5333), ((1200, 10, 10), 3600, 2400)],
)
def test_as_many_copies_as_printed_or_as_suit_the_set(counts, expand_to, train):
    assert copies_first(index_rows(counts)) == Protocol("augment-then-split", expand_to, train)


@drawn_by(st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_copies_always_bring_labels_to_equal_numbers(counts):
    rows, copies = index_rows(counts), copies_first(index_rows(counts))
    plan = plan_copies(rows, copies.expand_to, seed=0)
    assert len(rows) + sum(plan.values()) == copies.expand_to >= 2 * len(rows)


def test_runs_of_the_shipped_classifiers_keep_their_names_and_settings():
    arms = {arm.name: arm for arm in AUDIT_PROTOCOL.arms}
    assert list(arms) == [f"{model}-{name}" for model in ("unet", "resnet50", "lesion-features") for name in PROTOCOLS]
    start = ('model.weights="off"', 'model.pixel_normalization="unit"')
    start += ("classification.balance.expand_to=2000", 'classification.balance.smote="off"')
    none = "classification.balance.expand_to=0"
    assert arms["resnet50-image-wise"].overrides == start and not arms["resnet50-image-wise"].preview_overrides
    assert arms["resnet50-augment-then-split"].overrides == (*start, none)
    assert arms["lesion-features-patient-wise"].overrides == ()
    assert arms["lesion-features-augment-then-split"].overrides == (none,)


def planned_of(study, records, out):
    options = StudyOptions(records.folder, out, seeds=1, pretraining_records=records.folder)
    return {run.arm.name: run for run in plan_runs(study, options) if not run.pretraining}, options


def test_one_recipe_under_three_protocols_with_leaks_allowed_where_they_are(records, given, tmp_path):
    study, notes = audit_of(records, given)
    runs, options = planned_of(study, records, tmp_path)
    assert len(runs) == 9 and not notes
    for model in ("unet", "resnet50", "lesion-features"):
        recipes = [runs[f"{model}-{name}"].recipe for name in PROTOCOLS]
        assert recipes[0] == recipes[1] and recipes[0].model == recipes[2].model
        assert recipes[0].augmentation == recipes[2].augmentation
    copies = runs["resnet50-augment-then-split"]
    assert copies.recipe.classification.balance.expand_to == 0 and copies.records != options.records
    allowed = {name: "--allow-leak" in commands_of(run, "absent", options)[0] for name, run in runs.items()}
    assert allowed == {name: not name.endswith("patient-wise") for name in runs}


def test_a_classifier_of_the_user_trains_on_as_many_images_too(records, given):
    study, _ = audit_of(records, given, ["fast_classifier", "lymph_node_vgg16"])
    arms = {arm.name: arm.overrides for arm in study.arms}
    none = "classification.balance.expand_to=0"
    assert arms["fast-classifier-augment-then-split"] == (none, f"training.images={len(given['train'])}")
    assert arms["fast-classifier-image-wise"] == () == arms["lymph-node-vgg16-patient-wise"]


def split_of(records):
    splits = split_patients(records.index, test=0.25, validation=0.25)
    write_splits(records.folder / "splits.json", splits, {}, records)
    return splits


def test_without_labels_only_segmentation_is_audited(tmp_path):
    records = drawn_records(tmp_path / "set", [""] * 16, [f"p{number // 2}" for number in range(16)])
    splits = split_of(records)
    study, notes = audit_of(records, splits)
    assert [arm.name for arm in study.arms] == [f"unet-{name}" for name in PROTOCOLS] and not study.pretraining
    assert len(notes) == 1 and "classifiers need labels" in notes[0]
    with pytest.raises(RecipeError, match="every recipe classifies"):
        audit_of(records, splits, ["fast_classifier"])


def test_patients_of_one_image_each_are_told_of(tmp_path):
    labels = ["benign", "malignant"] * 8
    records = drawn_records(tmp_path / "set", labels, [f"p{number}" for number in range(16)])
    study, notes = audit_of(records, split_of(records))
    assert len(study.arms) == 9 and len(notes) == 1 and "Each patient has one image" in notes[0]


def test_a_part_that_lacks_a_label_is_refused(tmp_path):
    labels, patients = ["benign", "malignant"] * 6, [f"p{number}" for number in range(12)]
    records = drawn_records(tmp_path / "set", labels, patients)
    names = [row.source_id for row in sorted(records.index, key=lambda row: row.label)]  # malignant ones last
    splits = {"validation": names[:3], "train": names[3:9], "test": names[9:]}
    with pytest.raises(RecordsError, match=r"part 'validation': .* found benign"):
        audit_of(records, splits)
    assert len(audit_of(records, splits, ["unet"]).study.arms) == 3


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished audit of a U-net and of lesion features: its records, its folder, and the words of its command."""
    folder = tmp_path_factory.mktemp("audit")
    labels, patients = ["benign", "malignant"] * 12, [f"p{number % 12}" for number in range(24)]
    records = drawn_records(folder / "set", labels, patients)
    recipe, out = write_recipe(folder), folder / "study"
    study, _ = audit_of(records, split_of(records), [recipe, "lesion_features"])
    finish_audit(
        study,
        records,
        out,
        dice=lambda arm, name: 0.9 if arm == "small-augment-then-split" else 0.7,
        probability=lambda arm, malignant: 0.5 if arm.endswith("patient-wise") else 0.2 + 0.6 * malignant,
    )
    words = ["audit-protocol", "--records", str(records.folder), "--out", str(out), "--seeds", "1"]
    return records, out, [*words, "--recipe", recipe, "--recipe", "lesion_features"]


def test_the_command_writes_tables_and_figures(finished, capsys):
    _, out, words = finished
    assert main([*words, "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    rows = {row["arm"]: row for row in tables["audit-protocol"]}
    copies = rows["small-augment-then-split"]
    assert copies["dice_above"] == pytest.approx(0.2) and copies["verdict"] == "inflated"
    assert rows["small-image-wise"]["dice_above"] == pytest.approx(0) and copies["roc_auc_mean"] is None
    assert rows["lesion-features-image-wise"]["roc_auc_above"] == pytest.approx(0.5)
    assert rows["small-patient-wise"]["of_trained_patients"] == 0 < copies["of_trained_images"] <= 1
    assert rows["small-image-wise"]["of_trained_images"] == 0, "images without copies are in one part alone"
    for name in ("audit-protocol", "audit-protocol-each-score"):
        assert all((out / f"{name}.{ending}").is_file() for ending in ("csv", "md", "tex"))
    assert all(
        (out / f"audit-protocol{which}.{ending}").is_file() for which in ("", "-above") for ending in ("png", "svg")
    )
    assert len(list(csv.DictReader((out / "audit-protocol.csv").open(encoding="utf-8")))) == 6
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "+0.200 (+0.200 to +0.200) | inflated |" in printed and "made before" in printed


@pytest.mark.parametrize("limit", [0, 6])
def test_segmentation_trains_on_as_many_images_under_each_protocol(finished, tmp_path, limit):
    from ustoolkit.training.start import draw_images

    records, out, _ = finished
    given = read_splits(records.folder / "splits.json", records)
    changes = (f"training.images={limit}",) if limit else ()
    study, _ = audit_of(records, given, [write_recipe(tmp_path)], changes=changes)
    options = StudyOptions(records.folder, out, seeds=1, changes=changes)
    data = StudyData(options)
    runs = plan_runs(study, options)
    drawn = {run.arm.name: draw_images(data.of(run).splits, run.recipe.training)["train"] for run in runs}
    assert {len(names) for names in drawn.values()} == {limit or len(given["train"])} and len(drawn) == 3


def test_the_share_that_training_knew_is_counted_image_by_image(finished, capsys):
    records, out, words = finished
    assert main([*words, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["tables"]["audit-protocol"][1]
    parts = json.loads((out / "protocols" / "image-wise" / "seed0.json").read_text())["parts"]
    patient = {row.source_id: row.patient_id for row in records.index}
    known = {patient[name] for name in parts["train"] + parts["validation"]}
    assert row["of_trained_patients"] == np.mean([patient[name] in known for name in parts["test"]]) > 0
    assert (row["training_images"], row["test_images"]) == (len(parts["train"]), len(parts["test"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "untt"], "Did you mean 'unet'"),
        (["--recipe", "unet", "--recipe", "unet"], "2 recipes are named 'unet'"),
        (["--splits", "nowhere.json"], "nowhere.json"),
        (["--seeds", "0"], "expected 1 to"),
        (["--only", "unet-image"], "no such arm"),
        (["--recipe", "fast_classifier", "--set", "classification.balance.expand_to=5"], "expand_to itself"),
    ],
)
def test_wrong_wishes_end_with_one_message(records, tmp_path, capsys, words, message):
    out = tmp_path / "study"
    assert main(["audit-protocol", "--records", str(records.folder), "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not out.exists()


@pytest.mark.slow
def test_the_audit_from_end_to_end(labelled_records, tmp_path, capsys):
    out = tmp_path / "study"
    words = ["audit-protocol", "--records", str(labelled_records.folder), "--out", str(out), "--seeds", "1"]
    words += ["--recipe", write_recipe(tmp_path), "--recipe", write_lesion_recipe(tmp_path)]
    words += ["--jobs", "1", "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert {run["status"] for run in result["runs"].values()} == {"finished"}, result["runs"]
    rows = {row["arm"]: row for row in result["tables"]["audit-protocol"]}
    for model in ("small", "lesions"):
        of_model = [rows[f"{model}-{name}"] for name in PROTOCOLS]
        assert len({row["training_images"] for row in of_model}) == 1
        assert [row["of_trained_images"] for row in of_model][:2] == [0, 0] < [of_model[2]["of_trained_images"]]
        assert of_model[0]["of_trained_patients"] == 0
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/run.json")}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "what was finished was run again"
