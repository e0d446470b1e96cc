"""Two runs side by side: the numbers of `compare`, images in common alone, and which images are shown."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from tests.report.page import Page
from tests.report.runs import make_evaluation, make_records, make_run, make_samples, renamed
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.recipe import load_recipe
from ustoolkit.report.pair_page import choose_pairs, run_names, write_pair_page
from ustoolkit.report.pair_scores import Pairs, group_rows, metric_rows, pair_images, read_side
from ustoolkit.report.scores import ImageScore
from ustoolkit.run import Run
from ustoolkit.studies.run_sets import read_run_set, shared_images
from ustoolkit.studies.set_comparison import compare_sets

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def make_pair(folder, change=lambda sample: sample, **other):
    """Two runs on the same records; the other one's masks are nearer to the truth on most images."""
    records = make_records(folder / "records", [change(sample) for sample in make_samples()])
    first, second = make_run(folder / "plain", records), make_run(folder / "wide", records, recipe="demo")
    make_evaluation(first, records)
    make_evaluation(second, records, **{"shift": lambda number: number // 2 if number % 5 else number + 6, **other})
    return first, second, records


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    first, other, records = make_pair(tmp_path_factory.mktemp("pair"))
    path = write_pair_page(first, other)
    return first, other, records, path, Page(path.read_text(encoding="utf-8"))


def score(number, dice, **changes):
    known = ImageScore(f"scan {number:02}", f"p{number}", "benign", dice, 1.0, "mm", 5.0, dice == 0, False)
    return replace(known, **changes)


def pairs_of(*values):
    first, other = ([score(number, pair[side]) for number, pair in enumerate(values)] for side in (0, 1))
    return Pairs([], (first, other), "lesion diameter, mm", (0, 0))


def signed(value, digits=3):
    return f"{value:+.{digits}f}".replace("-", "−")


def test_the_page_stands_alone(pair):
    path, page = pair[3:]
    assert path == pair[0].folder / "report-against-wide.html" and 50_000 < path.stat().st_size < 3_000_000
    assert page.faults == [] and page.open == [] and len(page.ids()) == len(set(page.ids()))
    for address in page.addresses():
        assert address.startswith("data:image/") or address[1:] in page.ids(), address
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")


def test_numbers_are_those_of_compare(pair):
    first, other, records, _, page = pair
    sides = read_side(first, "test"), read_side(other, "test")
    found = {row["metric"]: row for row in metric_rows(*sides, pair_images(*sides, records))}
    sets, _ = shared_images({"first": read_run_set(first.folder), "other": read_run_set(other.folder)})
    expected = {row["metric"]: row for row in compare_sets(sets, list(found))}
    assert found.keys() == expected.keys() and len(found) == 8
    for metric, row in expected.items():
        difference = found[metric]["difference"]
        assert (difference.mean, difference.interval_low, difference.interval_high) == pytest.approx(
            (row["difference"], row["interval_low"], row["interval_high"])
        )
        assert (found[metric]["first"], found[metric]["other"]) == pytest.approx((row["mean_against"], row["mean"]))
        assert (found[metric]["p_holm"], found[metric]["verdict"]) == (pytest.approx(row["p_holm"]), row["by_interval"])
        assert found[metric]["verdict_by_p"] == row["by_p"]
    dice = expected["dice"]
    low, high = signed(dice["interval_low"]), signed(dice["interval_high"])
    assert f"Dice {dice['mean_against']:.3f} {dice['mean']:.3f} {signed(dice['difference'])} {low} to {high}" in (
        page.words()
    )


def test_the_summary_counts_images_and_says_what_is_decided(pair):
    first, other, _, _, page = pair
    dice = [[row["dice"] for row in read_rows(run.evaluation("test"))] for run in (first, other)]
    higher = sum(two > one for one, two in zip(*dice, strict=True))
    lower = sum(two < one for one, two in zip(*dice, strict=True))
    words = page.words()
    assert f"It is higher on {higher} images, lower on {lower} and equal on {len(dice[0]) - higher - lower}." in words
    missed = [[value == 0 for value in of_run] for of_run in dice]
    both = sum(one and two for one, two in zip(*missed, strict=True))
    told = f"{sum(missed[0])} by plain, {sum(missed[1])} by wide, {both} by both"
    assert both and f"Lesions missed altogether: {told}." in words
    assert "wide outlines lesions better" in words or "do not decide which of the two is better" in words


def test_every_image_is_in_the_table_the_largest_difference_first(pair):
    rows = [attributes for tag, attributes in pair[4].elements if tag == "tr" and "data-difference" in attributes]
    assert len(rows) == len(pair[0].splits["test"])
    sizes = [abs(float(row["data-difference"])) for row in rows]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 0
    dice = [{row["source_id"]: row["dice"] for row in read_rows(run.evaluation("test"))} for run in pair[:2]]
    assert sum(row["data-missed"] == "yes" for row in rows) == sum(not dice[0][n] or not dice[1][n] for n in dice[0])


def test_settings_that_differ_are_told_and_the_others_not(pair):
    words = pair[4].words()
    recipes = load_recipe("fast"), load_recipe("demo")
    assert f"training.epochs {recipes[0].training.epochs} {recipes[1].training.epochs}" in words
    assert "training.seed" not in words
    assert f"The same in both: Git revision {pair[0].state['git_revision']}" in words or "The same in both:" in words


def test_only_images_in_common_are_compared(tmp_path):
    first, _, records = make_pair(tmp_path)
    narrow = make_run(tmp_path / "narrow", records)
    part = narrow.splits["test"]
    fewer = Run.create(
        tmp_path / "fewer",
        load_recipe("fast"),
        records.manifest,
        records.folder,
        {**narrow.splits, "test": part[: len(part) // 2]},
        [],
    )
    make_evaluation(fewer, records)
    words = Page(write_pair_page(first, fewer).read_text(encoding="utf-8")).words()
    assert f"on {len(part) // 2} images" in words
    assert f"{len(part) - len(part) // 2} of plain and 0 of fewer are left out" in words


def test_without_an_image_in_common_there_is_no_page(tmp_path):
    first, other, records = make_pair(tmp_path)
    make_evaluation(other, records, part="validation")
    with pytest.raises(RunError, match=r"wide: expected scores of images that .*plain scored too, found none of its"):
        write_pair_page(first, other)
    assert not list(tmp_path.rglob("report-against*"))


def test_the_same_images_in_other_records_are_found_by_their_pixels(tmp_path):
    samples = make_samples()
    first, _, records = make_pair(tmp_path)
    changed = [
        renamed(sample, sample.source_id, image=255 - sample.image) if number % 2 else sample
        for number, sample in enumerate(samples)
    ]
    others = make_records(tmp_path / "others", changed)
    other = make_run(tmp_path / "elsewhere", others)
    metrics = make_evaluation(other, others)
    assert metrics["settings"]["records_digest"] != records.digest
    sides = read_side(first, "test"), read_side(other, "test")
    pairs = pair_images(*sides, records)
    same = {sample.source_id for number, sample in enumerate(samples) if not number % 2}
    assert {row.source_id for row in pairs.index} == same & set(first.splits["test"]) & set(other.splits["test"])
    (others.folder / "manifest.json").unlink()
    with pytest.raises(RecordsError, match="elsewhere: it was evaluated on other records, which are not found"):
        write_pair_page(first, other)


def test_what_cannot_be_set_side_by_side_is_refused(tmp_path, pair):
    first, other, records = pair[:3]
    with pytest.raises(RunError, match="plain: expected two runs, found the same one twice"):
        write_pair_page(first, Run(first.folder))
    classifier = make_run(tmp_path / "classifier", records, recipe="lesion_features")
    with pytest.raises(RunError, match=r"classifier: expected a run that segments.*'ustoolkit compare'"):
        write_pair_page(first, classifier)
    with pytest.raises(RunError, match=r"expected an evaluation 'train', found only test.*--split test"):
        write_pair_page(first, other, part="train")
    begun = make_run(tmp_path / "begun", records)
    begun.update(status="started")
    with pytest.raises(RunError, match="begun: expected an evaluated run, found one whose training has not finished"):
        write_pair_page(first, begun)
    cyst = make_records(tmp_path / "records", make_samples(), classes=("background", "cyst"))
    named = make_run(tmp_path / "named", cyst)
    make_evaluation(named, cyst)
    with pytest.raises(
        RunError, match=r"named: expected the classes background, lesion as in .*found background, cyst"
    ):
        write_pair_page(first, named)


def test_images_that_a_run_learned_from_are_told(tmp_path):
    first, other, records = make_pair(tmp_path)
    seen = [row.sha256 for row in records.index if row.source_id in other.splits["test"][:2]]
    content = {"parts": other.splits, "trained_on_sha256": seen}
    (other.folder / "splits.json").write_text(re.sub("'", '"', str(content)))
    words = Page(write_pair_page(first, Run(other.folder)).read_text(encoding="utf-8")).words()
    assert f"wide was trained on 2 of these {len(other.splits['test'])} images" in words


def test_an_unfinished_run_is_called_so(tmp_path):
    first, other, _ = make_pair(tmp_path)
    other.update(status="started", warnings=["one <patient> is in two parts"])
    out = tmp_path / "elsewhere" / "pair.html"
    assert write_pair_page(first, other, out) == out
    words = Page(out.read_text(encoding="utf-8")).words()
    assert "wide: its training has not finished" in words and "wide: one <patient> is in two parts" in words


def test_a_run_that_is_replaced_loses_its_pages(tmp_path):
    first, other, records = make_pair(tmp_path)
    page = write_pair_page(first, other)
    Run.create(first.folder, first.recipe, records.manifest, records.folder, first.splits, [], overwrite=True)
    assert not page.exists()


def test_the_largest_differences_are_shown_either_way_and_what_both_find_hard():
    pairs = pairs_of((0.5, 0.9), (0.9, 0.2), (0.8, 0.8), (0.1, 0.1), (0.0, 0.3), (math.nan, 0.9), (0.70, 0.704))
    chosen = choose_pairs(pairs)
    names = {kind: [first.source_id for first, _ in group] for kind, group in chosen.items()}
    assert names == {"other": ["scan 00", "scan 04"], "first": ["scan 01"], "poor": ["scan 03"]}


def test_groups_are_those_of_the_records(pair):
    first, other, records = pair[:3]
    sides = read_side(first, "test"), read_side(other, "test")
    pairs = pair_images(*sides, records)
    rows = {(row["grouping"], row["group"]): row for row in group_rows(pairs)}
    benign = np.array([row.label == "benign" for row in pairs.index])
    assert rows["Label", "benign"]["images"] == benign.sum()
    assert rows["Label", "benign"]["other"] == pytest.approx(pairs.dice[1, benign].mean())
    assert any(grouping == "Lesion size" for grouping, _ in rows)


def test_names_are_as_long_as_they_must_be(tmp_path):
    assert run_names(tmp_path / "a" / "seed0", tmp_path / "b" / "seed0") == ("a/seed0", "b/seed0")
    assert run_names(tmp_path / "a", tmp_path / "b") == ("a", "b")


def test_nothing_in_a_name_is_markup(tmp_path):
    first, other, _ = make_pair(
        tmp_path,
        lambda sample: renamed(
            sample, f"{EVIL}{sample.source_id}", label=EVIL, patient_id=f"{EVIL}{sample.patient_id}"
        ),
    )
    page = Page(write_pair_page(first, other).read_text(encoding="utf-8"))
    assert page.faults == [] and EVIL in page.text
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [{"type": "module"}]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_without_lesions_labels_and_spacing(tmp_path):
    def bare(sample):
        return renamed(sample, sample.source_id, label="", spacing_mm=None, mask=np.zeros_like(sample.mask))

    first, other, _ = make_pair(tmp_path, bare)
    page = Page(write_pair_page(first, other).read_text(encoding="utf-8"))
    words = page.words()
    assert page.faults == [] and "On none of these images is Dice defined in both" in words
    assert "nan" not in words.lower().split()
