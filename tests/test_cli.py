"""The command line as a newcomer meets it: right and wrong input, exit codes, one message and no traceback."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import TINY
from ustoolkit.cli import main
from ustoolkit.data.records import Records

COMMANDS = (
    "phantom",
    "inspect",
    "clean",
    "records",
    "annotations",
    "split",
    "expand",
    "train",
    "tune-threshold",
    "tune-crf",
    "evaluate",
    "fuse",
    "compare",
    "predict",
    "diagnose",
    "explain",
    "export",
    "report",
    "models",
    "study",
    "cross-validate",
    "tune",
    "audit-protocol",
)


def call(capsys, *words: object) -> tuple[int, str, str]:
    """Runs a command; returns its exit code, stdout and stderr."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as leave:
        code = int(leave.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *words: object) -> str:
    """Runs a command that must be refused with one clear message; returns it."""
    code, out, err = call(capsys, *words)
    assert code == 2, err
    assert "Traceback" not in err and err.startswith("ustoolkit: ") and not out
    return err


@pytest.fixture
def data(phantom_folder, tmp_path):
    """A copy of the phantoms to spoil."""
    return Path(shutil.copytree(phantom_folder, tmp_path / "data"))


@pytest.fixture
def plain(data):
    """The phantoms as a plain folder of images and masks, without their table."""
    (data / "phantoms.csv").unlink()
    return data


def test_help_is_light_and_names_every_command():
    script = (
        "import sys\n"
        "from ustoolkit.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'tensorflow', 'numpy', 'scipy', 'sklearn', 'PIL', 'matplotlib', 'pydantic'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "HEAVY []" in printed
    for command in COMMANDS:
        assert re.search(rf"\n    {command}\s", printed)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0 and "--json" in out


def test_the_whole_way(capsys, tmp_path):
    """Images to report by commands alone, each result used by the next."""
    images, records, run = tmp_path / "images", tmp_path / "records", tmp_path / "run"
    overrides = [word for setting in TINY for word in ("--set", setting)]
    stages = [
        ("phantom", "--out", images, "--count", "24", "--size", "64", "64"),
        ("inspect", images),
        ("records", images, "--out", records),
        ("split", records, "--test", "0.25", "--validation", "0.25", "--seed", "1"),
        ("train", "demo", "--records", records, "--out", run, *overrides),
        ("evaluate", run),
        ("predict", run, images / "images" / "phantom_0003.png", "--out", tmp_path / "masks"),
        ("export", run),
        ("predict", run / "export", images / "images", "--out", tmp_path / "more_masks"),
        ("report", run),
    ]
    results = {}
    for stage in stages:
        code, out, err = call(capsys, *stage, "--json")
        assert code == 0, err
        results[stage[0]] = json.loads(out)
    assert results["inspect"]["images"] == 24
    assert results["train"]["status"] == "finished"
    assert results["evaluate"]["images"] == results["split"]["test"]
    assert (tmp_path / "masks" / "phantom_0003_mask.png").is_file()
    assert len(list((tmp_path / "more_masks").glob("*_overlay.png"))) == 24
    assert (run / "report.html").read_text().count("<html") == 1


def test_resuming_a_finished_run_says_it_is_finished(capsys, records, trained_run):
    arguments = ("train", "demo", "--records", records.folder, "--out", trained_run.folder, "--resume")
    code, out, _ = call(capsys, *arguments)
    assert code == 0 and "all 3 epochs done" in out
    assert "--set" in refused(capsys, *arguments, "--set", "training.epochs=9")
    assert "'demo'" in refused(capsys, "train", "fast", *arguments[2:])


def test_models_lists_the_published_counts(capsys):
    code, out, _ = call(capsys, "models", "light_unet", "fcn_8s", "--json")
    assert code == 0
    listed = {entry["name"]: entry for entry in json.loads(out)["models"]}
    assert {entry["network"] for entry in listed.values()} == {"light_unet", "fcn_8s"}
    assert listed["light_unet"]["trainable_weights"] == 11_000_257
    assert listed["fcn_8s"]["trainable_weights"] == 18_643_713
    assert listed["light_unet"]["train"] == "light_unet"
    assert "training_milliseconds" not in listed["light_unet"]


def test_models_names_the_nearest_network(capsys):
    code, _, err = call(capsys, "models", "lighter_unett")
    assert code == 2 and "lighter_unet" in err


@pytest.mark.slow
def test_models_are_measured_where_that_is_asked_for(capsys):
    code, out, _ = call(capsys, "models", "--measure", "--json")
    assert code == 0
    result = json.loads(out)
    for entry in result["models"]:
        times = entry["inference_milliseconds"], entry["training_milliseconds"]
        assert min(*times, entry["activation_mebibytes"]) > 0, entry["name"]
    assert "cores" in result["machine"]


class TestBadInput:
    """Each gives one message that names the file and the remedy; what is good goes on."""

    def test_an_empty_folder(self, capsys, tmp_path):
        (tmp_path / "empty").mkdir()
        for command in (["inspect"], ["records", "--out", tmp_path / "records"]):
            message = refused(capsys, command[0], tmp_path / "empty", *command[1:])
            assert "empty folder" in message and str(tmp_path / "empty") in message
        assert not (tmp_path / "records").exists()

    def test_a_path_that_is_not_there(self, capsys, tmp_path):
        assert "Check the path" in refused(capsys, "inspect", tmp_path / "nowhere")
        assert "Check the path" in refused(capsys, "inspect", tmp_path / "nowhere.toml")

    def test_an_image_without_a_mask_is_kept_and_not_trained_on(self, capsys, plain, tmp_path):
        (plain / "masks" / "phantom_0004.png").unlink()
        code, out, _ = call(capsys, "inspect", plain)
        assert code == 0 and "no mask: phantom_0004" in out
        code, _, err = call(capsys, "records", plain, "--out", tmp_path / "records")
        assert code == 0 and "1 images have no mask" in err
        assert "phantom_0004" not in (tmp_path / "records" / "splits.json").read_text()

    @pytest.mark.parametrize("harm", ["mask of another size", "truncated", "text named .png"])
    def test_a_bad_file_is_refused_and_the_rest_goes_on(self, capsys, plain, tmp_path, harm):
        image = plain / "images" / "phantom_0002.png"
        if harm == "mask of another size":
            bad = plain / "masks" / "phantom_0002.png"
            Image.fromarray(np.zeros((10, 20), np.uint8)).save(bad)
        else:
            bad = image
            image.write_bytes(image.read_bytes()[:300] if harm == "truncated" else b"this is no image")
        code, out, err = call(capsys, "records", plain, "--out", tmp_path / "records", "--json")
        assert code == 0 and str(bad) in err and "Traceback" not in err
        result = json.loads(out)
        assert result["images"] == 29 and [item["source_id"] for item in result["refused"]] == ["phantom_0002"]
        manifest = json.loads((tmp_path / "records" / "manifest.json").read_text())
        assert len(manifest["refused"]) == 1
        code, out, _ = call(capsys, "inspect", plain)
        assert code == 0 and f"refused: {bad}" in out

    def test_a_shard_cut_short(self, capsys, records, tmp_path, trained_run):
        copy = Path(shutil.copytree(records.folder, tmp_path / "records"))
        shard = next(copy.glob("*.tfrecord"))
        shard.write_bytes(shard.read_bytes()[:-100])
        for words in (
            ("train", "demo", "--records", copy, "--out", tmp_path / "run"),
            ("split", copy),
            ("evaluate", trained_run.folder, "--records", copy),
            ("predict", trained_run.folder, copy, "--out", tmp_path / "masks"),
        ):
            message = refused(capsys, *words)
            assert shard.name in message and "Convert the data set again" in message
        assert not (tmp_path / "run").exists()

    def test_a_misspelt_key(self, capsys, records, tmp_path):
        recipe = tmp_path / "mine.toml"
        recipe.write_text("[training]\nlearning_rat = 0.1\n")
        message = refused(capsys, "train", recipe, "--records", records.folder, "--out", tmp_path / "run")
        assert "mine.toml" in message and "'learning_rate'" in message
        arguments = ("--records", records.folder, "--out", tmp_path / "run")
        assert "'fast'" in refused(capsys, "train", "fsat", *arguments)
        assert "'training'" in refused(capsys, "train", "fast", *arguments, "--set", "trainin.epochs=1")
        assert not (tmp_path / "run").exists()

    def test_a_run_without_weights(self, capsys, records, tmp_path, tiny_recipe):
        from ustoolkit.training.start import start_run

        run = start_run(tiny_recipe, records, tmp_path / "run").folder
        for words in (
            ("evaluate", run),
            ("export", run, "--out", tmp_path / "model"),
            ("predict", run, records.folder, "--out", tmp_path / "masks"),
        ):
            assert "best.weights.h5" in refused(capsys, *words)
        assert not (tmp_path / "model").exists()
        assert "ustoolkit evaluate" in refused(capsys, "report", run)

    def test_a_folder_that_is_no_run(self, capsys, tmp_path):
        for command in ("evaluate", "export", "report"):
            assert "run folder" in refused(capsys, command, tmp_path)
            assert "run folder" in refused(capsys, command, tmp_path / "nowhere")

    def test_an_output_that_cannot_be_written(self, capsys, data, records, trained_run, tmp_path):
        file = tmp_path / "file"
        file.write_text("in the way")
        out = file / "below"
        for words in (
            ("phantom", "--out", out, "--count", "1"),
            ("records", data, "--out", out),
            ("train", "demo", "--records", records.folder, "--out", out),
            ("predict", trained_run.folder, data, "--out", out),
            ("export", trained_run.folder, "--out", out),
        ):
            assert "--out" in refused(capsys, *words)
        assert file.read_text() == "in the way"

    def test_an_output_that_is_taken(self, capsys, data, records, trained_run, tmp_path):
        for words in (
            ("records", data, "--out", records.folder),
            ("train", "demo", "--records", records.folder, "--out", trained_run.folder),
        ):
            assert "--overwrite" in refused(capsys, *words)
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "holiday.txt").write_text("dear")
        assert "manifest.json" in refused(capsys, "records", data, "--out", tmp_path / "photos", "--overwrite")
        assert (tmp_path / "photos" / "holiday.txt").is_file()

    def test_a_patient_rule_that_fits_no_name(self, capsys, plain, tmp_path):
        for rule, hint in (
            (r"case(\d+)", "does not match"),
            (r"\d+", "group"),
            ("(", "not a regular expression"),
        ):
            assert hint in refused(capsys, "records", plain, "--out", tmp_path / "records", "--patient", rule)

    def test_a_split_that_cannot_be(self, capsys, records):
        before = (records.folder / "splits.json").read_bytes()
        assert "no image has an attribute" in refused(
            capsys, "split", records.folder, "--fold-attribute", "Fold", "--test-folds", "3"
        )
        assert "less than 1" in refused(capsys, "split", records.folder, "--test", "1.5")
        assert "together" in refused(capsys, "split", records.folder, "--test-folds", "3")
        assert (records.folder / "splits.json").read_bytes() == before

    def test_a_number_that_is_none(self, capsys, tmp_path):
        code, _, err = call(capsys, "phantom", "--out", tmp_path / "p", "--count", "many")
        assert code == 2 and "invalid int value" in err
        assert "count" in refused(capsys, "phantom", "--out", tmp_path / "p", "--count", "0")


def test_images_that_the_description_excludes_are_left_out_everywhere(capsys, phantom_folder, tmp_path):
    ids = sorted(path.stem for path in (phantom_folder / "images").iterdir())
    description = tmp_path / "set.toml"
    description.write_text(f'path = "{phantom_folder}"\nexclude = ["{ids[0]}", "{ids[1]}", "nobody"]\n')
    code, out, _ = call(capsys, "inspect", description, "--json")
    assert (code, json.loads(out)["images"]) == (0, len(ids) - 2)
    code, out, err = call(capsys, "records", description, "--out", tmp_path / "records", "--json")
    assert code == 0
    assert json.loads(out)["excluded"] == ids[:2]
    assert json.loads(out)["images"] == len(ids) - 2
    assert "nobody" in err


def test_masks_become_annotations_and_annotations_records_again(capsys, records, tmp_path):
    for form in ("labelme", "via", "coco"):
        code, out, _ = call(capsys, "annotations", records.folder, "--format", form, "--out", tmp_path / form, "--json")
        assert (code, json.loads(out)["images"]) == (0, len(records.index))
        description = tmp_path / form / "data_set.toml"
        code, out, _ = call(capsys, "records", description, "--out", tmp_path / f"{form}-records", "--json")
        assert code == 0
        again = Records(tmp_path / f"{form}-records")
        assert {row.source_id: (row.patient_id, row.label, row.sha256) for row in again.index} == {
            row.source_id: (row.patient_id, row.label, row.sha256) for row in records.index
        }
        for before, after in zip(records.index, again.index, strict=True):
            assert after.lesion_fraction == pytest.approx(before.lesion_fraction, rel=0.1)


def test_predictions_that_are_not_there_are_answered(capsys, records, tmp_path):
    words = ("annotations", records.folder, "--format", "coco", "--out", tmp_path / "out", "--masks", tmp_path / "no")
    assert "expected a folder of predicted masks" in refused(capsys, *words)
