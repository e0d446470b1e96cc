"""The page of a study: what its tables say, its runs, what is missing; from folders as studies leave them."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.page import Page
from tests.studies.runs import finish_all, options, silent, toy_study
from ustoolkit.errors import RunError
from ustoolkit.report.study_files import StudyTable, read_tables
from ustoolkit.report.study_page import write_study_page
from ustoolkit.report.study_reading import difference_name, interval_rows, main_score, read_comparison
from ustoolkit.studies.runner import run_study

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def dice(arm, seed, source_id):
    """The arm 'short' is 0.2 lower, but for a wobble that differs from image to image."""
    wobble = sum(source_id.encode()) % 7 / 100
    return 0.8 + seed / 50 - wobble - (0.2 + wobble / 3 if arm == "short" else 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, records):
    """A study of two arms and two seeds, all four runs finished, and its page."""
    asked = options(records, tmp_path_factory.mktemp("study") / "lengths of training")
    finish_all(toy_study(), asked, records, dice)
    run_study(toy_study(), asked, silent)
    return asked.out, Page(write_study_page(asked.out).read_text(encoding="utf-8"))


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "study"))


def page_of(folder):
    return Page(write_study_page(folder).read_text(encoding="utf-8"))


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def change_runs(folder, change):
    rows = rows_of(folder / "runs.csv")
    for row in rows:
        row.update(change(row))
    with (folder / "runs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def table(*rows, header=("Arm", "Dice", "Dice against the first", "Verdict")):
    """A table of (label, Dice, difference, low, high, verdict)."""
    names = ("label", "dice_mean", "difference", "interval_low", "interval_high", "verdict")
    lines = [[row[0], row[1], f"{float(row[2]):+.3f}".replace("-", "−") if row[2] else "–", row[5]] for row in rows]
    return StudyTable("t", "T", header, lines, [], [dict(zip(names, row, strict=True)) for row in rows])


def test_a_page_needs_nothing_but_the_folders_it_links_to(finished):
    folder, page = finished
    assert page.faults == [] and page.open == [] and len(page.ids()) == len(set(page.ids()))
    for address in page.addresses():
        if address.startswith("#"):
            assert address[1:] in page.ids()
        elif not address.startswith("data:image/"):
            assert address.startswith("./runs/") and (folder / address).is_dir(), address
    assert not page.tags() & {"link", "iframe", "object", "embed", "base"}


def test_tables_stand_as_the_study_wrote_them_in_its_order(finished):
    folder, page = finished
    words = page.words()
    found = read_tables(folder)
    assert [each.name for each in found] == ["lengths", "lengths-by-size"]
    for each in found:
        for line in each.lines:
            assert " ".join(line) in words
        for paragraph in each.notes:
            assert " ".join(paragraph.split()) in words
    state = json.loads((folder / "study.json").read_text())
    assert state["table_order"] == ["lengths", "lengths-by-size"] and "how long to train" in words


def test_the_main_comparison_is_read_in_words(finished):
    folder, page = finished
    row = next(row for row in rows_of(folder / "lengths.csv") if row["arm"] == "short")
    assert row["verdict"] == "worse"
    low, high = (f"{float(row[key]):.3f}".replace("-", "−") for key in ("interval_low", "interval_high"))
    mean = f"{float(row['difference']):.3f}".replace("-", "−")
    words = page.words()
    assert f"Of 1 compared with ‘many’, none is better, 1 is worse (one, {mean}) and none is undecided." in words
    assert f"Worse than ‘many’: the whole interval is below zero one: {mean} (95 % interval {low} to {high})" in words


def test_each_run_leads_to_its_folder_and_its_page(copy):
    rows = rows_of(copy / "runs.csv")
    (copy / rows[0]["folder"] / "report.html").write_text("a page")
    page = page_of(copy)
    links = [address for address in page.addresses() if address.startswith("./runs/")]
    assert sorted(links) == sorted([f"./{row['folder']}/" for row in rows] + [f"./{rows[0]['folder']}/report.html"])
    shutil.rmtree(copy / rows[1]["folder"])
    assert f"./{rows[1]['folder']}/" not in page_of(copy).addresses()


def test_what_is_missing_is_named_with_its_reason(copy):
    def fail(row):
        failed = {"status": "failed", "error": "out of memory\nended by signal 9"}
        return failed if row["run"] == "short/seed1" else {"status": "waiting"} if row["run"] == "short/seed0" else {}

    change_runs(copy, fail)
    words = page_of(copy).words()
    assert "2 of 4 runs are finished, 1 failed: what is said here is of these" in words
    assert "short/seed1: failed out of memory ended by signal 9" in words
    assert "Not trained yet: short/seed0." in words


def test_settings_of_the_study_and_versions_of_its_runs_are_told(finished, records):
    words = finished[1].words()
    assert str(records.folder.resolve()) in words and "Seeds 2" in words
    assert "training.epochs=1" in words and "training.seed=" not in words
    state = json.loads((finished[0] / "runs" / "long" / "seed0" / "run.json").read_text())
    assert f"numpy {state['versions']['numpy']}" in words and "(runs differ)" not in words


def test_runs_of_several_versions_are_called_so(copy):
    path = copy / "runs" / "long" / "seed0" / "run.json"
    state = json.loads(path.read_text())
    state["versions"]["numpy"] = "1.0"
    path.write_text(json.dumps(state))
    assert "(runs differ)" in page_of(copy).words()


def test_an_older_study_says_less(copy):
    path = copy / "study.json"
    path.write_text(json.dumps({"study": "toy"}))
    (copy / "lengths.md").unlink()
    page = page_of(copy)
    assert page.faults == [] and "hausdorff95_pixel_mean" in page.words()


def test_figures_of_the_study_are_shown_once(copy):
    (copy / "lengths.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (copy / "curves.png").write_bytes(b"a picture")
    page = page_of(copy)
    shown = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    assert shown == ["Figure of the table ‘Length of training’", "Figure ‘curves’ of the study"]


def test_without_a_finished_run_there_is_no_page(copy):
    change_runs(copy, lambda row: {"status": "waiting"})
    (copy / "report.html").unlink()
    with pytest.raises(RunError, match=r"expected a study with a finished run, found none of 4 finished\. Run the"):
        write_study_page(copy)
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("study.json", "[]", "expected what a study is"),
        ("study.json", "{", "expected JSON"),
        ("runs.csv", "a,b\n1,2\n", "expected a table of runs"),
        ("runs.csv", None, "no such file"),
        ("lengths.csv", "a,b\n1\n", "as many cells"),
    ],
)
def test_a_damaged_study_is_refused(copy, file, content, said):
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_text(content)
    with pytest.raises(RunError, match=f"{file}: .*{said}.*Run the study again"):
        write_study_page(copy)


def test_nothing_in_a_name_is_markup(copy):
    hostile = "javascript:alert(1)"
    change_runs(copy, lambda row: {"error": EVIL, "arm": EVIL, "run": EVIL, "folder": hostile, "settings": EVIL})
    change_runs(copy, lambda row: {"status": "finished"})
    for name in ("lengths.md", "lengths.csv"):
        text = (copy / name).read_text()
        written = f"{EVIL} | one" if name.endswith(".md") else '"' + EVIL.replace('"', '""') + ' | one"'
        (copy / name).write_text(text.replace("\none,", f"\n{written},").replace("| one |", f"| {written} |"))
    (copy / hostile).mkdir()
    page = page_of(copy)
    assert page.faults == [] and page.text.count(f"{EVIL} | one") >= 2
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"type": "module"}]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not any(address.startswith("javascript") for address in page.addresses())


def test_reading_counts_names_and_what_has_no_scores():
    reading = read_comparison(
        table(
            ("first", "0.8", "", "", "", "baseline"),
            ("b", "0.9", "0.1", "0.05", "0.15", "better"),
            ("c", "0.9", "0.2", "0.15", "0.25", "better"),
            ("d", "0.8", "0.001", "-0.1", "0.1", "undecided"),
            ("e", "", "", "", "", ""),
        )
    )
    assert reading.sentence == (
        "Of 4 to compare with ‘first’, 3 have scores: 2 are better (b, +0.100; c, +0.200), none is worse and 1 is "
        "undecided."
    )
    groups = list(reading.groups.values())
    assert groups[0] == ["c: +0.200 (95 % interval +0.150 to +0.250)", "b: +0.100 (95 % interval +0.050 to +0.150)"]
    assert groups[-1] == ["e"] and list(reading.groups)[-1] == "Not compared"
    assert [row.label for row in interval_rows(reading)] == ["b", "c", "d"]


def test_verdicts_of_a_study_s_own_and_several_baselines():
    reading = read_comparison(
        table(
            ("a", "0.8", "", "", "", "baseline"),
            ("b", "0.8", "", "", "", "baseline"),
            ("c", "0.9", "0.1", "0.05", "0.15", "inflated"),
        )
    )
    assert reading.sentence == "Of 1 compared with their baselines, 1 is inflated (c, +0.100)."


def test_a_table_of_several_scores_is_read_by_the_one_that_its_verdict_is_on():
    columns = ("label", "protocol", "main", "dice_above", "dice_above_low", "dice_above_high", "verdict")
    rows = [("unet", "patient-wise", "dice", "", "", "", "baseline")]
    rows += [("unet", "image-wise", "dice", "0.1", "0.05", "0.15", "inflated")]
    lines = [["unet", "patient-wise", "–"], ["unet", "image-wise", "+0.100 (+0.050 to +0.150)"]]
    header = ["Model", "Protocol", "above patient-wise"]
    found = StudyTable("t", "T", header, lines, [], [dict(zip(columns, row, strict=True)) for row in rows])
    reading = read_comparison(found)
    assert [(row.label, row.value) for row in interval_rows(reading)] == [("unet, image-wise", 0.1)]
    assert "flatters" in next(iter(reading.groups)) and difference_name(found) == "above patient-wise"


def test_a_table_without_differences_is_not_read():
    assert read_comparison(table(("first", "0.8", "", "", "", "baseline"))) is None
    assert read_comparison(StudyTable("t", "T", ["a"], [["1"]], [], [{"a": "1"}])) is None
    assert read_comparison(StudyTable("t", "T", ["a"], [["1"]], [], [])) is None


def test_where_nothing_is_compared_the_first_score_is_told():
    missing = StudyTable("t", "T", ["Recipe", "Runs", "ROC AUC"], [["a", "missing", "–"]], [], [])
    scored = StudyTable("s", "S", ["Recipe", "Runs", "ROC AUC"], [["b", "2", "0.93 ± 0.01"]], [], [])
    assert main_score([missing, scored]) == "b: ROC AUC 0.93 ± 0.01"
    assert main_score([missing]) == ""


def test_differences_are_called_by_their_heading():
    found = table(("first", "0.8", "", "", "", "baseline"), ("b", "0.7", "-0.1", "-0.2", "0.0", "undecided"))
    assert difference_name(found) == "Dice against the first"


def test_tensorflow_is_not_loaded():
    code = "import sys, ustoolkit.report.study_page; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
