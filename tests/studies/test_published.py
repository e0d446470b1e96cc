"""Each published study from its one command, on phantoms and made as small as it can be."""

import csv
import json
import math

import pytest

from tests.studies.runs import other_records
from ustoolkit.cli import main
from ustoolkit.errors import RunError
from ustoolkit.files import read_json

pytestmark = pytest.mark.slow
NATURAL, SECOND = "--pretraining-records", "--second-records"
SMALL = ("data.image_size=[32,32]", "training.epochs=1")
FEW = ("training.images=8", "training.batch_size=4")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Phantoms to train on (fewer have too few of a label to classify), others to begin with, and second ones."""
    folder = tmp_path_factory.mktemp("made")
    own = other_records(folder / "own", 48)
    return own.folder, *(other_records(folder / f"others{seed}", 12, seed=seed).folder for seed in (9, 10))


def call(made, out, name, only, changes, *words):
    """Runs a study, and checks what is the same of all."""
    command = ["study", name, "--records", str(made[0]), "--out", str(out), "--preview", "--seeds", "1", "--json"]
    command += [word for change in changes for word in ("--set", change)]
    others = {NATURAL: made[1], SECOND: made[2]}
    command += [f"{word}={others[word]}" if word in others else word for word in words]
    assert main([*command, "--only", *only]) == 0
    state = read_json(out / "study.json", RunError, "")
    assert state["study"] == name and state["preview"]
    finished = {run for run, entry in state["runs"].items() if entry["status"] == "finished"}
    errors = {run: entry["error"] for run, entry in state["runs"].items() if entry["status"] == "failed"}
    assert not errors
    tables = {path.stem: list(csv.DictReader(path.open(newline=""))) for path in out.glob("*.csv")}
    for table in tables.keys() - {"runs"}:
        page, latex = ((out / f"{table}.{ending}").read_text() for ending in ("md", "tex"))
        assert "nan" not in page.lower().split() and latex.startswith("\\begin{table}")
    assert {row["run"] for row in tables["runs"]} == state["runs"].keys()
    assert str(out) not in (out / "runs.csv").read_text()
    return finished, tables


def scored(tables, table):
    """Dice by arm of the lines that are there."""
    rows = {row["arm"]: row for row in tables[table] if row["runs"] != "0"}
    assert all(0 <= float(row["dice_mean"]) <= 1 for row in rows.values())
    return rows


def test_light_unet_with_the_beginning_of_its_ladder(made, tmp_path, capsys):
    steps = ["ladder-default", "ladder-augmentation", "ladder-dice"]
    # Batches are compared, so that they stay as they are.
    finished, tables = call(made, tmp_path / "out", "light-unet", ["ladder-dice", "light", "l*-64"], (*SMALL, FEW[0]))
    assert finished == {f"{name}/seed0" for name in (*steps, "light", "lighter-64")}
    assert set(scored(tables, "group-sizes")) == {"light", "lighter-64"}
    rows = tables["ladder"]
    assert [row["arm"] for row in rows if row["runs"] == "1"] == steps and len(rows) == 7
    assert rows[0]["kept"] == "True" and rows[1]["kept"] in ("True", "False") and rows[3]["kept"] == ""
    assert "training.epochs" not in rows[0]["change"], "the user's"
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} >= {"ladder", "trade-off"}


def test_deeplab_with_prepared_images_and_the_crf(made, tmp_path, capsys):
    only = ["unet", "unet-gaussian-morphology", "unet-pretrained"]
    finished, tables = call(made, tmp_path / "out", "deeplab", only, (*SMALL, *FEW), NATURAL)
    assert finished == {"pretraining/unet", *(f"{name}/seed0" for name in only)}
    assert set(scored(tables, "preparation")) == {"unet", "unet-gaussian-morphology"}
    crf = scored(tables, "crf")
    assert set(crf) == {"unet", "unet+crf"} and not math.isnan(float(crf["unet+crf"]["difference"]))
    assert set(scored(tables, "crf-pretrained")) == {"unet-pretrained", "unet-pretrained+crf"}
    made_for_them = [path.name for path in (tmp_path / "out" / "preparations").iterdir() if path.is_dir()]
    assert made_for_them == ["gaussian-morphology"], "and no other preparation"


def test_lymph_node_with_segmentation_and_classification(made, tmp_path, capsys):
    only = ["relu-equal-1", "nhselu-balanced-2", "lesion-features", "vgg16-bottleneck-2000"]
    finished, tables = call(made, tmp_path / "out", "lymph-node", only, SMALL, NATURAL)
    assert finished == {"pretraining/vgg16", *(f"{name}/seed0" for name in only)}
    assert set(scored(tables, "losses")) == set(only[:2])
    networks = {row["arm"]: row for row in tables["networks"]}
    assert 0 <= float(networks["vgg16-bottleneck-2000"]["roc_auc_mean"]) <= 1
    assert sum(row["seeds"] != "0" for row in networks.values()) == 1 and len(networks) == 24
    state = json.loads((tmp_path / "out" / "runs" / only[3] / "seed0" / "run.json").read_text())
    assert any("backbone/" in name for name in state["initial_weights"]["layers"])


def test_fine_tuning_on_both_records_with_folds(made, tmp_path, capsys):
    only = ["shallow-5", "all", "second-deep-4"]
    changes = (*(change for change in SMALL if "epochs" not in change), "training.batch_size=4")
    finished, tables = call(made, tmp_path / "out", "fine-tuning", only, changes, NATURAL, SECOND, "--folds", "2")
    names = {f"{name}/seed0-fold{fold}" for name in only for fold in (1, 2)}
    assert finished == {"pretraining/natural", *names}
    assert set(scored(tables, "blocks")) == {"shallow-5", "all"}
    assert set(scored(tables, "second-parts")) == {"second-deep-4"}
    whole, part = (scored(tables, "parts")[name] for name in ("all", "shallow-5"))
    assert int(part["open_weights"]) < int(whole["open_weights"]) == int(whole["trainable_weights"])
    assert int(part["patients_compared"]) > 1
