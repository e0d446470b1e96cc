"""`ustoolkit report`: one page for each kind of result, and one message for what has none."""

import json
import shutil

import pytest

from tests.report.classifier_runs import make_classifier
from tests.report.runs import make_run
from tests.report.test_pair_page import make_pair
from tests.studies.runs import begin, finish_all, options, silent, toy_study
from ustoolkit.cli import main
from ustoolkit.report.evaluated import evaluations
from ustoolkit.run import Run
from ustoolkit.studies.runner import run_study


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def study(tmp_path_factory, records):
    asked = options(records, tmp_path_factory.mktemp("study") / "study")
    finish_all(toy_study(), asked, records, lambda arm, seed, name: 0.8)
    run_study(toy_study(), asked, silent)
    return asked.out


def written(capsys, *words):
    assert main(["report", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["report"]


def refused(capsys, *words):
    assert main(["report", *map(str, words)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("ustoolkit: ") and message.count("\n") == 1 and "Traceback" not in message
    return message


def test_each_kind_of_result_has_its_page(capsys, pair, study, tmp_path):
    first, other, _ = pair
    run, _ = make_classifier(tmp_path)
    out = tmp_path / "two.html"
    for words, path, title in (
        ([first.folder], first.folder / "report.html", "Ultrasound segmentation report"),
        ([first.folder, other.folder], first.folder / "report-against-wide.html", "Two runs side by side"),
        ([first.folder, other.folder, "--out", out], out, "Two runs side by side"),
        ([run.folder], run.folder / "report.html", "Ultrasound classification report"),
        ([study], study / "report.html", "Study report"),
    ):
        assert written(capsys, *words) == str(path)
        assert title in path.read_text(encoding="utf-8")


def test_what_has_no_page_is_said_in_one_message(capsys, pair, study, records, tmp_path):
    first, other, _ = pair
    assert "expected a run folder, found nothing" in refused(capsys, tmp_path / "nowhere")
    assert "expected a run folder, found no recipe.toml" in refused(capsys, tmp_path)
    begun = make_run(tmp_path / "begun", records)
    assert "Run 'ustoolkit evaluate" in refused(capsys, begun.folder)
    begun.update(status="started")
    assert "training has not finished" in refused(capsys, begun.folder)
    assert "training has not finished" in refused(capsys, first.folder, begun.folder)
    assert "found only test" in refused(capsys, first.folder, "--split", "train")
    assert "the page of one run has no use for it" in refused(capsys, first.folder, "--out", tmp_path / "a.html")
    assert "--audit" in refused(capsys, first.folder, other.folder, "--audit", tmp_path)
    assert "expected two runs to set side by side, found a study" in refused(capsys, study, first.folder)
    assert "found no recipe.toml" in refused(capsys, first.folder, study)
    assert "the page of a study has no use for it" in refused(capsys, study, "--records", records.folder)
    assert "the same one twice" in refused(capsys, other.folder, other.folder)
    (tmp_path / "file").write_text("in the way")
    assert "cannot write here" in refused(capsys, first.folder, other.folder, "--out", tmp_path / "file" / "a.html")


def test_a_run_that_was_trained_and_nothing_else_is_scored_first(capsys, trained_run, tmp_path):
    run = Run(shutil.copytree(trained_run.folder, tmp_path / "run"))
    assert main(["report", str(run.folder)]) == 0
    assert "it is scored on its test part first" in capsys.readouterr().err
    assert evaluations(run) == ["test"] and (run.folder / "report.html").is_file()
    assert main(["report", str(run.folder)]) == 0
    assert not capsys.readouterr().err


def test_a_study_that_has_only_begun_is_refused(capsys, records, tmp_path):
    asked = options(records, tmp_path / "study")
    begin(toy_study(), asked)
    assert "runs.csv: no such file. Run the study again" in refused(capsys, asked.out)


def test_help_names_what_it_takes(capsys):
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "RUN|STUDY [OTHER]" in text and "two runs side by side, or of a study" in text
