import shutil
from collections import Counter

import pytest

from tests.report.page import Page
from tests.report.runs import make_all, make_evaluation, make_records, make_run, make_samples, renamed
from ustoolkit.cli import main
from ustoolkit.data.audit import audit_records
from ustoolkit.errors import DataError, RunError
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.files import read_json, write_json
from ustoolkit.report.audit_findings import audit_findings
from ustoolkit.report.html import write_report
from ustoolkit.report.scores import image_scores
from ustoolkit.run import Run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_all(tmp_path_factory.mktemp("audit"))


@pytest.fixture
def scores(made):
    run, records = made
    return image_scores(read_rows(run.evaluation("test")), records.index)[0]


def result(*source_ids):
    problem = {"kind": "tiny mask", "severity": "warning", "remedy": "Check.", "source_ids": list(source_ids)}
    return {"problems": [{**problem, "details": []}], "refused": []}


def test_one_beside_the_run_or_the_records_is_found_and_another_data_sets_is_not(made, scores):
    run, records = made
    shown = scores[0].source_id
    assert not audit_findings(run, records, scores)["file"]
    places = (run.folder / "audit.json", run.folder / "audit/audit.json", records.folder.parent / "audit.json")
    for path in places:
        write_json(path, result(shown, records.index[0].source_id, "elsewhere"))
        found = audit_findings(run, records, scores)
        assert found["file"] == str(path) and found["by_image"][shown] == ["tiny mask"]
        assert found["problems"][0]["images"] == len({shown, records.index[0].source_id, "elsewhere"})
        write_json(path, result("quite", "other"))
        assert not audit_findings(run, records, scores)["file"]
        assert audit_findings(run, records, scores, given=path)["foreign"]
        path.unlink()


def test_what_is_no_audit_is_refused(made, scores, tmp_path):
    run, records = made
    with pytest.raises(DataError, match=r"audit\.json.*ustoolkit inspect"):
        audit_findings(run, records, scores, given=tmp_path)
    write_json(tmp_path / "audit.json", {"problems": 3})
    with pytest.raises(DataError, match=r"expected an audit, found something else.*ustoolkit inspect"):
        audit_findings(run, records, scores, given=tmp_path)


def test_without_an_audit_the_index_tells_and_the_page_says_how_to_make_one(made, scores):
    run, records = made
    found = audit_findings(run, records, scores)
    expected = audit_records(records, run.splits)
    assert [problem["kind"] for problem in found["problems"]] == [problem["kind"] for problem in expected]
    words = Page(write_report(run, records).read_text(encoding="utf-8")).words()
    assert f"ustoolkit inspect {records.folder} --out {run.folder}/audit" in words


def test_an_image_in_two_parts_is_found_by_the_index(made, scores, tmp_path):
    run, records = made
    copied = Run(shutil.copytree(run.folder, tmp_path / "run"))
    splits = read_json(run.folder / "splits.json", RunError, "")
    counts = Counter(row.patient_id for row in records.index)
    patient = counts.most_common(1)[0][0]
    of_patient = [row.source_id for row in records.index if row.patient_id == patient]
    splits["parts"] = {"train": of_patient[1:], "validation": [], "test": of_patient[:1]}
    write_json(copied.folder / "splits.json", splits)
    kinds = {problem["kind"] for problem in audit_findings(copied, records, scores)["problems"]}
    assert "patient in different parts" in kinds


def test_the_page_shows_what_inspect_found(tmp_path):
    samples = make_samples()
    records = make_records(tmp_path / "records", [*samples, renamed(samples[0], "the same again", label="malignant")])
    run = make_run(tmp_path / "run", records)
    make_evaluation(run, records)
    assert main(["inspect", str(records.folder), "--out", str(tmp_path / "found"), "--workers", "1"]) == 0
    found = read_json(tmp_path / "found/audit.json", RunError, "")
    words = Page(write_report(run, records, audit=tmp_path / "found").read_text(encoding="utf-8")).words()
    assert "By the index of the records alone" not in words
    assert found["problems"]
    for problem in found["problems"]:
        assert f"{problem['kind']} {problem['severity']} {len(problem['source_ids'])}" in words
