import json
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.report.page import Page
from tests.report.runs import make_all, make_evaluation, make_records, make_run, make_samples, renamed
from ustoolkit.data.records import Records
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.report.html import write_report
from ustoolkit.report.rendering import digest
from ustoolkit.run import Run

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run, records = make_all(tmp_path_factory.mktemp("report"), refused=["scan_9"])
    path = write_report(run, records)
    return run, records, path, path.read_text(encoding="utf-8")


def read_metrics(run, name="test"):
    return json.loads((run.evaluation(name) / "metrics.json").read_text(encoding="utf-8"))


def test_the_page_is_well_formed(finished):
    page = Page(finished[3])
    assert page.faults == []
    assert page.open == []
    assert len(page.ids()) == len(set(page.ids()))
    assert finished[3].lstrip().startswith("<!DOCTYPE html>")
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")


def test_the_page_needs_nothing_else(finished):
    page = Page(finished[3])
    assert not page.tags() & {"link", "iframe", "object", "embed", "base"}
    assert page.addresses()
    for address in page.addresses():
        assert address.startswith(("#", "data:image/")), address
    for anchor in [address for address in page.addresses() if address.startswith("#")]:
        assert anchor[1:] in page.ids()
    assert not re.search(r"https?://|@import|url\((?!#)|file:", finished[3])


def test_only_the_pages_own_scripts_may_run(finished):
    policy = next(each["content"] for _, each in Page(finished[3]).elements if "http-equiv" in each)
    scripts = re.findall(r'<script type="module">(.*?)</script>', finished[3], flags=re.DOTALL)
    assert len(scripts) == 2
    named = [f"'{digest(script)}'" for script in scripts]
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {' '.join(named)};" in policy


def test_the_page_is_small_and_the_only_thing_written(finished):
    run, _, path, _ = finished
    assert path == run.folder / "report.html"
    assert 50_000 < path.stat().st_size < 2_000_000
    assert not [left for left in run.folder.iterdir() if left.name.startswith(".")]


def test_the_scores_are_those_of_metrics_json(finished):
    words = Page(finished[3]).words()
    for key, summary in read_metrics(finished[0])["classes"]["lesion"].items():
        digits = 2 if "hausdorff" in key else 3
        mean, deviation, median, low, high = (
            f"{summary[name]:.{digits}f}"
            for name in ("mean", "standard_deviation", "median", "interval_low", "interval_high")
        )
        row = f"{mean} ± {deviation} {median} {low} to {high} {summary['count']} {summary['undefined']}"
        assert row in words, key


def test_the_summary_says_what_came_out(finished):
    run, words = finished[0], Page(finished[3]).words()
    metrics = read_metrics(run)
    dice = metrics["classes"]["lesion"]["dice"]
    assert (
        f"On {metrics['images']} images of {metrics['patients']} patients that training never saw, the "
        f"predicted outline overlapped the annotated one with a mean Dice of {dice['mean']:.2f} "
        f"(95 % interval {dice['interval_low']:.2f} to {dice['interval_high']:.2f})."
    ) in words
    missed = sum(row["dice"] == 0 for row in read_rows(run.evaluation("test")))
    assert f"The lesion was missed altogether on {missed} image{'s' if missed > 1 else ''} (" in words
    assert f"Lesions missed {missed} on {metrics['images']} images with one" in words


def test_data_training_and_settings_are_told(finished):
    run, words = finished[0], Page(finished[3]).words()
    for part, source_ids in run.splits.items():
        assert f"{part} {len(source_ids)} " in words
    assert "scan_<b>9</b>.png: the image is damaged" in words
    assert "1 file was refused" in words
    assert "1 h 02 min" in words
    assert "all 6 epochs done" in words
    assert "plateau_patience = 5" in words
    for version in run.state["versions"].values():
        assert version in words


def test_the_worst_case_is_the_lowest_dice(finished):
    rows = sorted(read_rows(finished[0].evaluation("test")), key=lambda row: row["dice"])
    worst = finished[3].split("<h3>Worst</h3>")[1].split("<h3>")[0]
    best = finished[3].split("<h3>Best</h3>")[1].split("<h3>")[0]
    lowest = [row["source_id"] for row in rows if row["dice"] == rows[0]["dice"]]
    assert re.search("<b>(.*?)</b>", worst).group(1) == min(lowest)
    assert "missed, nothing marked" in worst
    assert re.search("<b>(.*?)</b>", best).group(1) == rows[-1]["source_id"]
    assert f"HD95 {rows[-1]['hausdorff95_mm']:.1f} mm" in best


def test_colours_follow_the_page(finished):
    plots = re.findall(r'<svg class="plot".*?</svg>', finished[3], flags=re.DOTALL)
    assert len(plots) == 5
    for plot in plots:
        assert not re.search(r"#[0-9a-f]{6}\b", plot)
        assert set(re.findall(r"var\(--[\w-]+\)", plot)) <= {f"var({name})" for name in defined_colours(finished[3])}


def defined_colours(text):
    return re.findall(r"(--[\w-]+):", text.split("</style>")[0])


def test_without_records_those_of_the_run_are_opened(finished):
    run, _, path, text = finished
    assert write_report(Run(run.folder)) == path
    assert path.read_text(encoding="utf-8") == text


def test_nothing_in_a_name_is_markup(tmp_path):
    samples = make_samples()
    odd = [renamed(sample, f"{EVIL}{number}", label=EVIL) for number, sample in enumerate(samples)]
    classes = ("background", EVIL)
    records = make_records(tmp_path / "records", odd, refused=[EVIL], classes=classes)
    run = make_run(tmp_path / "run", records)
    run.update(command=EVIL, stopped_because=EVIL)
    make_evaluation(run, records)
    page = Page(write_report(run, records).read_text(encoding="utf-8"))
    assert page.faults == []
    assert [each for tag, each in page.elements if tag == "script"] == [
        {"type": "application/json", "id": "image-data"},
        {"type": "module"},
        {"type": "module"},
    ]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert EVIL in page.text


def test_every_missing_piece_is_named(tmp_path):
    run, records = make_all(tmp_path)
    with pytest.raises(RunError, match=r"my run: expected an evaluation 'validation', found only test. Run 'ustoolkit"):
        write_report(run, records, part="validation")
    mask = next((run.evaluation("test") / "masks").iterdir())
    for other in (run.evaluation("test") / "masks").iterdir():
        other.unlink()
    with pytest.raises(RunError, match=r"no such file.*Run 'ustoolkit evaluate' again"):
        write_report(run, records)
    assert not mask.exists()
    (run.evaluation("test") / "metrics.json").write_text('{"classes": {"lesion": {}}}')
    with pytest.raises(RunError, match="expected a summary of metrics"):
        write_report(run, records)
    run.update(records=str(tmp_path / "gone"))
    make_evaluation(run, records)
    with pytest.raises(RecordsError, match="gone"):
        write_report(run)
    assert not (run.folder / "report.html").exists()


def test_other_records_are_refused(tmp_path):
    run, _ = make_all(tmp_path)
    others = make_records(tmp_path / "others", make_samples(6, seed=5))
    with pytest.raises(RecordsError, match="was made on other records"):
        write_report(run, others)


def test_an_evaluation_of_another_hospital(tmp_path):
    run, records = make_all(tmp_path)
    others = make_records(tmp_path / "others", [renamed(s, f"other/{s.source_id}") for s in make_samples(6, seed=5)])
    metrics = make_evaluation(run, others, name="others-all", own=False)
    mean = f"{metrics['classes']['lesion']['dice']['mean']:.3f} ±"
    words = Page(write_report(run, records).read_text(encoding="utf-8")).words()
    assert f"others-all lesion 6 {metrics['patients']} {mean}" in words
    words = Page(write_report(run, part="others-all").read_text(encoding="utf-8")).words()
    assert "On 6 images of" in words
    assert "of other records, which training never saw" in words
    assert "evaluation ‘others-all’" in words
    assert "HD95, median test lesion" in words
    assert "other/phantom_0000" in words


@pytest.mark.parametrize("part", ["train", "validation"])
def test_scores_of_images_that_training_used_are_called_so(tmp_path, part):
    run, records = make_all(tmp_path)
    make_evaluation(run, records, name=part, part=part)
    words = Page(write_report(run, records, part=part).read_text(encoding="utf-8")).words()
    assert "flatter" in words
    assert "never saw" not in words


def test_without_labels_spacing_history_or_lesion(tmp_path):
    def bare(sample):
        return renamed(sample, sample.source_id, label="", spacing_mm=None)

    samples = [bare(sample) for sample in make_samples()]
    samples = [renamed(s, s.source_id, mask=np.zeros_like(s.mask)) if n % 2 else s for n, s in enumerate(samples)]
    records = make_records(tmp_path / "records", samples)
    run = make_run(tmp_path / "run", records)
    (run.folder / "history.csv").unlink()
    make_evaluation(run, records)
    page = Page(write_report(run, records).read_text(encoding="utf-8"))
    words = page.words()
    assert page.faults == []
    assert "Label benign" not in words
    assert "Lesion size no lesion" in words
    assert "Distances in millimetres are not given" in words
    assert "lesion area, % of the image" in words
    assert "no history of training" in words
    assert "neither an annotated nor a predicted lesion" in words
    assert "nan" not in words.lower().split()


def test_nothing_annotated_and_nothing_predicted(tmp_path):
    samples = [renamed(s, s.source_id, mask=np.zeros_like(s.mask)) for s in make_samples()]
    records = make_records(tmp_path / "records", samples)
    run = make_run(tmp_path / "run", records)
    make_evaluation(run, records)
    page = Page(write_report(run, records).read_text(encoding="utf-8"))
    assert page.faults == []
    assert "nothing was annotated and nothing predicted" in page.words()


def test_several_classes(tmp_path):
    samples = [
        renamed(s, s.source_id, mask=(s.mask * (2 if s.label == "malignant" else 1)).astype(np.uint8))
        for s in make_samples()
    ]
    records = make_records(tmp_path / "records", samples, classes=("background", "benign", "malignant"))
    run = make_run(tmp_path / "run", records)
    make_evaluation(run, records)
    text = write_report(run, Records(records.folder)).read_text(encoding="utf-8")
    drawn = json.loads(re.search(r'id="image-data">(.*?)</script>', text).group(1))["images"]
    assert {tuple(map(bool, image["truth"])) for image in drawn} == {(True, False), (False, True)}
    words = Page(text).words()
    assert "for benign and " in words
    assert "mean of an image’s Dice over the classes" in words


def test_tensorflow_is_not_loaded():
    code = "import sys, ustoolkit.report.html; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_evaluation_without_pixels_together_still_reads(tmp_path):
    run, records = make_all(tmp_path)
    metrics = read_metrics(run)
    assert "All pixels together" in write_report(run, records).read_text(encoding="utf-8")
    del metrics["confusion"]
    path = run.evaluation("test") / "metrics.json"
    path.write_text(json.dumps(metrics), encoding="utf-8")
    page = Page(write_report(run, records).read_text(encoding="utf-8"))
    assert page.faults == []
    assert "All pixels together" not in page.words()
    path.write_text(json.dumps({**metrics, "confusion": {"iou": 3}}), encoding="utf-8")
    with pytest.raises(RunError, match="expected a summary of metrics"):
        write_report(run, records)


def test_warnings_of_the_run_are_shown(tmp_path):
    run, records = make_all(tmp_path)
    warning = "one patient is in <two> parts"
    assert warning not in Page(write_report(run, records).read_text(encoding="utf-8")).words()
    run.update(warnings=[warning])
    assert warning in Page(write_report(run, records).read_text(encoding="utf-8")).words()


def test_scores_of_older_weights_are_marked(tmp_path):
    run, records = make_all(tmp_path)
    metrics = json.loads((run.evaluation("test") / "metrics.json").read_text())
    metrics["settings"]["epoch"] = 3
    (run.evaluation("test") / "metrics.json").write_text(json.dumps(metrics))
    run.update(best_epoch=3)
    assert "scores of epoch" not in write_report(run, records).read_text(encoding="utf-8")
    run.update(best_epoch=5)
    page = write_report(run, records).read_text(encoding="utf-8")
    assert "scores of epoch 3, and the run&#39;s best is now epoch 5" in page
