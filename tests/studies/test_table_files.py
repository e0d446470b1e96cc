"""Tables as files: CSV to compute with, Markdown and LaTeX to read; and the list of runs behind them."""

import csv
import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.studies.runs import begin, finish, finish_all, options, other_records, silent, starts_study, toy_study
from ustoolkit.files import read_json, write_json
from ustoolkit.studies.plan import plan_runs
from ustoolkit.studies.runner import run_study
from ustoolkit.studies.table_files import (
    format_interval,
    format_number,
    format_spread,
    latex_table,
    markdown_table,
    write_table,
)

HEADER, LINES = ("Network", "Dice"), (("U-net", "0.5"), ("FCN", "–"))


def read_back(latex):
    """Cells of a LaTeX table as a reader sees them."""
    body = latex.split("\\toprule\n")[1].split("\\bottomrule")[0].replace("\\midrule\n", "")
    known = {
        "textbackslash{}": "\\",
        "textasciitilde{}": "~",
        "textasciicircum{}": "^",
        **{character: character for character in "&%$#_{}"},
    }
    maths = {"-": "−", "\\pm": "±", "\\times": "×", "<": "<", ">": ">"}
    rows = []
    for row in body.split(" \\\\\n")[:-1]:
        cells, cell, rest = [], "", row
        while rest:
            command = next((each for each in known if rest.startswith(f"\\{each}")), None)
            formula = re.match(r"\$(.*?)\$", rest)
            if command:
                cell, rest = cell + known[command], rest[len(command) + 1 :]
            elif formula:
                cell, rest = cell + maths[formula[1]], rest[formula.end() :]
            elif rest.startswith(" & "):
                cells, cell, rest = [*cells, cell], "", rest[3:]
            elif rest.startswith("{}"):
                rest = rest[2:]
            elif rest.startswith("--"):
                cell, rest = cell + "–", rest[2:]
            else:
                assert rest[0] not in "&%$#_{}\\~^", f"LaTeX would take this for a command: {rest}"
                cell, rest = cell + rest[0], rest[1:]
        rows.append([*cells, cell])
    return rows


def test_latex_by_hand():
    text = latex_table(("Loss & scale", "Dice_#1"), [("100 %", "−0.1 ± 0.2"), ("[a]", "–")], "{A} & B, $5, 2×")
    assert text.splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{\{A\} \& B, \$5, 2$\times$}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"Loss \& scale & Dice\_\#1 \\",
        r"\midrule",
        r"100 \% & $-$0.1 $\pm$ 0.2 \\",
        r"{}[a] & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


@given(st.lists(st.lists(st.text("ab1 &%$#_{}\\~^−±–×<>[]*.", max_size=8), min_size=3, max_size=3), max_size=4))
def test_a_reader_of_the_latex_sees_the_cells(lines):
    header = ["A & B", "50 %", "loss.terms={dice=1.0}"]
    lines = [[" ".join(cell.split()) for cell in cells] for cells in lines]
    text = latex_table(header, lines, "A table")
    assert read_back(text) == [header, *lines] and r"\begin{tabular}{lrr}" in text
    for before, after in zip(text.splitlines(), text.splitlines()[1:], strict=False):
        assert not (before.endswith("\\\\") and after.startswith(("[", "*"))), "taken for an option of the line's end"


def test_markdown_by_hand():
    assert markdown_table(HEADER, LINES) == "| Network | Dice |\n| --- | ---: |\n| U-net | 0.5 |\n| FCN | – |"


def test_a_table_is_three_files(tmp_path):
    rows = [{"label": "U-net", "dice": 1 / 3, "kept": True}, {"label": "FCN, −8", "dice": math.nan, "kept": None}]
    text = write_table(tmp_path / "some.table", "Networks", rows, HEADER, LINES, "About them.")
    assert text == f"## Networks\n\n{markdown_table(HEADER, LINES)}\n\nAbout them.\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.table.csv", "some.table.md", "some.table.tex"]
    assert (tmp_path / "some.table.md").read_text(encoding="utf-8") == text
    assert (tmp_path / "some.table.tex").read_text(encoding="utf-8") == latex_table(HEADER, LINES, "Networks")
    with (tmp_path / "some.table.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert float(found[0]["dice"]) == 1 / 3 and found[0]["kept"] == "True"
    assert found[1] == {"label": "FCN, −8", "dice": "", "kept": ""}


def test_numbers():
    assert format_number(-0.0567, 3) == "−0.057" and format_number(0.05, 1, "+") == "+0.1"
    assert format_number(math.nan, 3) == "–"
    assert format_spread({"dice_mean": 0.5, "dice_deviation": 0.01}, "dice") == "0.500 ± 0.010"
    assert format_spread({"dice_mean": 0.5, "dice_deviation": math.nan}, "dice") == "0.500"
    row = {"difference": -0.01, "interval_low": -0.02, "interval_high": 0.0}
    assert format_interval(row) == "−0.010 (−0.020 to +0.000)"
    assert format_interval({**row, "difference": math.nan}) == "–"


def runs_of(out):
    text = (out / "runs.csv").read_text(encoding="utf-8")
    return text, {row["run"]: row for row in csv.DictReader(text.splitlines())}


def test_every_run_is_listed_with_what_it_was(records, tmp_path):
    asked = options(records, tmp_path / "study", seeds=1)
    study = toy_study()
    finish_all(study, asked, records, lambda arm, seed, name: 0.5, best_validation_dice=0.75, best_epoch=2, epochs=3)
    run_study(study, asked, silent)
    _, rows = runs_of(asked.out)
    assert list(rows) == ["long/seed0", "short/seed0"]
    row = rows["long/seed0"]
    assert (row["arm"], row["seed"], row["fold"], row["status"]) == ("long", "0", "", "finished")
    assert row["folder"] == "runs/long/seed0" and row["recipe"] == "demo" and row["error"] == ""
    assert row["settings"].endswith("training.epochs=3 training.seed=0") and "model.widths=[4,8,8]" in row["settings"]
    assert (row["validation"], row["best_epoch"], row["epochs"], row["minutes"]) == ("0.75", "2", "3", "2.0")
    assert row["started"] == read_json(asked.out / "runs/long/seed0/run.json", RuntimeError, "")["started"]


def test_a_run_that_failed_is_listed_with_its_reason_and_one_that_is_not_there_without(records, tmp_path):
    asked = options(records, tmp_path / "study", seeds=1, only=("short",))
    begin(toy_study(), asked)
    finish(plan_runs(toy_study(), asked)[1], records, lambda name: 0.5)
    error = f"{asked.out}/runs/long/seed0: the loss is nan\nafter 2 steps, {asked.out.resolve()}/logs"
    failed = {"long/seed0": {"status": "failed", "seconds": 3.0, "error": error}}
    write_json(asked.out / "study.json", {"study": "toy", "runs": failed})
    run_study(toy_study(), asked, silent)
    text = (asked.out / "runs.csv").read_text(encoding="utf-8")
    long, short = csv.DictReader(text.splitlines(keepends=True))
    assert long["status"] == "failed" and long["validation"] == long["minutes"] == ""
    assert long["error"] == "runs/long/seed0: the loss is nan\nafter 2 steps, logs"
    assert short["status"] == "finished"
    begin(toy_study(), replace(asked, out=tmp_path / "other"))
    planned = plan_runs(toy_study(), replace(asked, out=tmp_path / "other"))
    finish(planned[1], records, lambda name: 0.5)
    run_study(toy_study(), replace(asked, out=tmp_path / "other"), silent)
    assert runs_of(tmp_path / "other")[1]["long/seed0"]["status"] == "waiting"


@pytest.mark.parametrize("relative", [False, True])
def test_nothing_in_the_list_names_the_folder_of_the_study(records, tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    others = other_records(tmp_path / "others")
    asked = options(records, tmp_path / "study", seeds=1, pretraining_records=others.folder)
    study = starts_study()
    finish_all(study, asked, records, lambda arm, seed, name: 0.5)
    asked = replace(asked, out=asked.out.relative_to(tmp_path)) if relative else asked
    run_study(study, asked, silent)
    text, rows = runs_of(asked.out)
    assert "study/" not in text and str(tmp_path) not in text
    assert f"training.initial_weights={json.dumps('pretraining/other')}" in rows["started/seed0"]["settings"]
    assert list(rows) == ["pretraining/other", "scratch/seed0", "started/seed0"]
    assert rows["pretraining/other"]["folder"] == "pretraining/other"
    assert rows["pretraining/other"]["records"] != rows["scratch/seed0"]["records"]
