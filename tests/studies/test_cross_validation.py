"""`ustoolkit cross-validate`: any recipes over folds by patient, from hand-made run folders and, slowly, for real."""

import csv
import json

import pytest

from tests.studies.runs import SETTINGS, finish_all, options
from ustoolkit.cli import main
from ustoolkit.errors import RecipeError
from ustoolkit.recipe import load_recipe
from ustoolkit.studies.cross_validation import cross_validation, write_subgroups


@pytest.fixture
def recipes(tmp_path):
    """Two recipes that differ in their epochs."""
    paths = []
    for name, epochs in (("first", 1), ("second", 2)):
        text = f'name = "{name}"\n[data]\nimage_size = [32, 32]\nchannels = 1\n[model]\nwidths = [4, 8, 8]\n'
        text += f"[training]\nepochs = {epochs}\nbatch_size = 4\n"
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        assert load_recipe(str(path)).training.epochs == epochs
        paths.append(str(path))
    return paths


def call(records, out, *words):
    return main(["cross-validate", *words, "--records", str(records.folder), "--out", str(out), "--folds", "3"])


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_recipes_side_by_side_and_by_group(records, recipes, tmp_path, capsys):
    out = tmp_path / "crossed"
    study = cross_validation(recipes, 3)
    asked = options(records, out, seeds=1)
    finish_all(study, asked, records, lambda arm, seed, name: 0.6 + 0.2 * (arm == "second"))
    assert call(records, out, *recipes) == 0
    printed = capsys.readouterr().out
    assert "+0.200 (+0.200 to +0.200) | better |" in printed
    first, second = rows_of(out / "scores.csv")
    assert first["runs"] == second["runs"] == "3" and float(second["dice_mean"]) == pytest.approx(0.8)
    groups = rows_of(out / "subgroups.csv")
    sizes = [row for row in groups if row["grouping"] == "size"]
    assert {row["set"] for row in sizes} == {"first", "second"}
    of_first = [int(row["images"]) for row in sizes if row["set"] == "first"]
    assert sum(of_first) == len(records.index), "every image was tested once, in one group of three"
    assert (out / "subgroups.png").is_file() and (out / "scores.png").is_file()
    assert "size: small" in printed


def test_one_recipe_alone_is_compared_with_none(records, recipes, tmp_path, capsys):
    out = tmp_path / "crossed"
    finish_all(cross_validation(recipes[:1], 3), options(records, out, seeds=1), records, lambda *_: 0.7)
    assert call(records, out, recipes[0], "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert [run["status"] for run in result["runs"].values()] == ["finished"] * 3 and result["folds"] == 3
    table = (out / "scores.md").read_text()
    assert "Verdict" not in table and "0.700 ± 0.000" in table


def test_no_groups_without_finished_arms(tmp_path):
    assert write_subgroups(tmp_path, {}) == ""


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["fast", "fast"], "two of these have the same name"),
        (["fast", "lesion_features"], "'lesion_features' classifies and 'fast' segments"),
        (["fastt"], "fastt"),
    ],
)
def test_recipes_that_cannot_be_compared_are_refused(names, message):
    with pytest.raises(RecipeError, match=message):
        cross_validation(names, 3)


def test_wrong_wishes_end_with_one_message(records, tmp_path, capsys):
    words = ["cross-validate", "demo", "--records", str(records.folder), "--out", str(tmp_path / "out")]
    for more, message in (
        (["--folds", "1"], "expected 2 or more"),
        (["--set", "training.seed=1"], "sets training.seed"),
    ):
        assert main([*words, *more]) == 2
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_segmentation_for_real(records, tmp_path, capsys):
    out = tmp_path / "crossed"
    words = [word for change in (*SETTINGS, "training.epochs=1") for word in ("--set", change)]
    command = ["cross-validate", "demo", "--records", str(records.folder), "--out", str(out), "--folds", "2", *words]
    assert main(command) == 0
    assert "size: small" in capsys.readouterr().out
    (row,) = rows_of(out / "scores.csv")
    assert row["runs"] == "2" and 0 <= float(row["dice_mean"]) <= 1
    runs = rows_of(out / "runs.csv")
    assert [run["folder"] for run in runs] == ["runs/demo/seed0-fold1", "runs/demo/seed0-fold2"]
    weights = (out / "runs/demo/seed0-fold1/best.weights.h5").read_bytes()
    assert main(command) == 0, "the same command trains nothing anew"
    assert (out / "runs/demo/seed0-fold1/best.weights.h5").read_bytes() == weights


@pytest.mark.slow
def test_classification_for_real(labelled_records, tmp_path, capsys):
    out = tmp_path / "crossed"
    words = ["--set", 'classification.transfer.estimators=["logistic"]', "--set"]
    words += ["classification.transfer.inner_folds=2", "--records", str(labelled_records.folder), "--out", str(out)]
    assert main(["cross-validate", "lesion_features", "--folds", "2", *words]) == 0
    by_image, by_patient = rows_of(out / "scores.csv")
    assert (by_image["unit"], by_patient["unit"], by_image["runs"]) == ("image", "patient", "2")
    assert 0 <= float(by_image["roc_auc_mean"]) <= 1 and 0 <= float(by_patient["brier_mean"]) <= 1
    assert "label: benign" in capsys.readouterr().out
