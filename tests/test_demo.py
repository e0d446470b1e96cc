"""The demonstration: every stage by its own command, on a set small enough for a test."""

import shutil

import pytest

from tests.conftest import TINY
from ustoolkit import demo
from ustoolkit.data.phantom import write_phantoms

SETTINGS = [word for setting in TINY for word in ("--set", setting)]


@pytest.mark.slow
def test_a_set_too_small_for_an_interval_ends_well_and_everything_is_made_over_earlier_results(
    tmp_path, phantom_folder, monkeypatch, capsys
):
    data, out = tmp_path / "data", tmp_path / "demo"
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
        for number in (0, 9, 18):
            name = f"phantom_{number:04}.png"
            shutil.copy(phantom_folder / folder / name, data / folder / name)
    assert demo.main(["--data", str(data), "--out", str(out), *SETTINGS]) == 0
    assert "unknown" in capsys.readouterr().out

    write_phantoms(out / "phantoms", 2, seed=1, size=(64, 64))
    few = {path.name for path in (out / "predictions").glob("*_mask.png")}
    monkeypatch.setattr(demo, "PHANTOMS", 24)
    assert demo.main(["--out", str(out), *SETTINGS]) == 0
    assert len(list((out / "phantoms" / "images").iterdir())) == 24
    assert len(list((out / "predictions").glob("*_mask.png"))) > len(few) > 0
    printed = capsys.readouterr().out
    for command in ("phantom", "inspect", "records", "train", "evaluate", "predict", "export", "report"):
        assert f"  ustoolkit {command} " in printed
    assert "mean Dice" in printed
    for result in ("records/manifest.json", "run/report.html", "saved_model/1/saved_model.pb", "predictions"):
        assert (out / result).exists()


def test_wrong_data_ends_with_its_message_and_touches_nothing(tmp_path, capsys):
    mine = tmp_path / "demo" / "predictions" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("dear")
    assert demo.main(["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "demo")]) == 2
    assert "Check the path" in capsys.readouterr().err and mine.read_text() == "dear"


@pytest.mark.slow
@pytest.mark.data
def test_real_images_reach_the_promised_dice(tmp_path, real_data):
    from ustoolkit.errors import RunError
    from ustoolkit.files import read_json

    assert demo.main(["--data", str(real_data / "busbra"), "--out", str(tmp_path / "demo")]) == 0
    metrics = read_json(tmp_path / "demo" / "run" / "evaluation" / "test" / "metrics.json", RunError, "")
    assert metrics["classes"]["lesion"]["dice"]["mean"] >= 0.70
