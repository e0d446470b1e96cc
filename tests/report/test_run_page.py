"""The page of a run in a real browser: its table, and the images that it opens."""

import json

import pytest

from tests.browser import LEAST_CONTRAST, chromium, visits
from tests.report.runs import keep_probabilities, make_evaluation, make_records, make_run, make_samples, renamed
from ustoolkit.files import write_json
from ustoolkit.report.html import write_report

HOSTILE = "<img src=x onerror=alert(1)>"
LAYERS = ["image", "truth", "prediction", "both", "difference", "probability", "crf"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run whose page has everything: probabilities, a CRF, attributes, an audit, and a name that is markup."""
    folder = tmp_path_factory.mktemp("run_page")
    samples = [
        renamed(
            sample,
            f"{HOSTILE}{number}" if number == 3 else f"scan {number}",
            attributes={"Device": "ABC"[number % 3], "BIRADS": str(2 + number % 4), "note": HOSTILE, "calipers": True},
        )
        for number, sample in enumerate(make_samples())
    ]
    records = make_records(folder / "records", samples)
    run = make_run(folder / "run", records)
    splits = json.loads((run.folder / "splits.json").read_text())
    everything = [sample.source_id for sample in samples]
    splits["parts"] = {"train": everything[:10], "validation": [], "test": everything}
    (run.folder / "splits.json").write_text(json.dumps(splits))
    make_evaluation(run, records, shift=lambda number: number // 3)
    make_evaluation(run, records, name="test-crf", shift=lambda number: number // 4, keep=lambda number: True)
    keep_probabilities(run, records)
    finding = {"kind": "tiny mask", "severity": "warning", "remedy": "Check.", "source_ids": ["scan 5", "elsewhere"]}
    write_json(run.folder / "audit.json", {"problems": [{**finding, "details": []}], "refused": []})
    return run, records, write_report(run, records)


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser, made):
    with visits(browser) as opened:
        yield lambda **settings: opened(made[2].as_uri(), **settings)


def names(page):
    return page.locator("#image-table tbody tr:visible .open").all_inner_texts()


def column(page, number):
    cells = page.locator(f"#image-table tbody tr:visible > :nth-child({number})")
    return [cell.get_attribute("data-value") or cell.inner_text() for cell in cells.all()]


def test_every_column_sorts_both_ways(visit):
    page = visit()
    headings = page.locator("#image-table thead th")
    for number in range(1, headings.count() + 1):
        heading = headings.nth(number - 1)
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == "ascending"
        up = column(page, number)
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == "descending"
        down = column(page, number)
        assert sorted(up) == sorted(down) and len(up) == 24
        if heading.get_attribute("data-sort") == "number":
            values = [float(value) for value in up if value not in ("", "–")]
            assert values == sorted(values)
            assert [float(value) for value in down if value not in ("", "–")] == values[::-1]
    page.get_by_role("button", name="Dice", exact=True).click()
    assert names(page)[0] == "scan 23"  # the one that was missed


def test_filters_leave_what_they_name(visit):
    page = visit()
    form = page.locator("form.filters")
    form.get_by_label("Device").select_option("B")
    assert names(page) == [f"scan {number}" for number in range(24) if number % 3 == 1]
    form.get_by_label("BI-RADS").select_option("3")
    assert names(page) == ["scan 1", "scan 13"]
    page.get_by_role("button", name="Show all").click()
    form.locator("output", has_text="all 24 shown").wait_for()
    form.get_by_label("missed only").check()
    assert names(page) == ["scan 23"]
    form.get_by_label("missed only").uncheck()
    form.get_by_label("Audit says").select_option(label="tiny mask")
    assert names(page) == ["scan 5"]
    form.get_by_label("Audit says").select_option("")
    form.get_by_label("Name holds").fill("ONERROR")
    assert names(page) == [f"{HOSTILE}3"]
    form.get_by_label("Name holds").fill("")
    form.get_by_label("Dice from").fill("0.99")
    assert names(page) == ["scan 0", "scan 1", "scan 2"]


def test_a_click_opens_an_image_and_keys_lead_through_the_rows_shown(visit):
    page = visit()
    viewer, title = page.locator("#viewer"), page.locator("#viewer-title")
    page.locator("form.filters").get_by_label("Device").select_option("A")
    page.locator("#image-table tbody tr:visible td").nth(1).click()
    assert viewer.is_visible() and title.inner_text() == "scan 0"
    page.keyboard.press("ArrowLeft")
    assert title.inner_text() == "scan 0"
    page.keyboard.press("ArrowRight")
    assert title.inner_text() == f"{HOSTILE}3"
    assert page.locator("#viewer-place").inner_text() == "2 of 8"
    page.locator("#viewer-next").click()
    assert title.inner_text() == "scan 6"
    page.keyboard.press("Escape")
    assert viewer.is_hidden()
    assert page.evaluate("document.activeElement.textContent") == "scan 6"


def test_enter_opens_and_closing_returns_the_focus(visit):
    page = visit()
    opener = page.locator("#image-table .open").nth(4)
    for close in (lambda: page.keyboard.press("Escape"), lambda: page.locator("#viewer-close").click()):
        opener.focus()
        page.keyboard.press("Enter")
        assert page.locator("#viewer").is_visible()
        assert page.evaluate("document.querySelector('#viewer').contains(document.activeElement)")
        close()
        assert page.evaluate("document.activeElement.textContent") == "scan 4"
    example = page.locator("figure.case .open").first
    example.click()
    assert page.locator("#viewer-title").inner_text() == example.inner_text()
    page.keyboard.press("Escape")
    assert example.evaluate("element => element === document.activeElement")


def test_each_layer_is_drawn_by_its_button_and_its_key(visit):
    page = visit()
    page.locator("#image-table .open").nth(4).click()
    page.locator("#viewer-image").evaluate("image => image.decode()")
    buttons = page.locator("#viewer-layers button")
    assert [button.get_attribute("data-layer") for button in buttons.all()] == LAYERS
    drawn = {
        "image": set(),
        "truth": {"truth"},
        "prediction": {"prediction"},
        "both": {"truth", "prediction"},
        "difference": {"agreed", "missed", "added"},
        "probability": {"truth", "prediction"},
        "crf": {"truth", "prediction", "other"},
    }
    for number, (layer, expected) in enumerate(drawn.items()):
        if number % 2:
            buttons.nth(number).click()
        else:
            page.keyboard.press(str(number + 1))
        assert buttons.nth(number).get_attribute("aria-pressed") == "true"
        assert page.locator("#viewer-layers [aria-pressed=true]").count() == 1
        shown = page.locator("#viewer-marks > path").evaluate_all(
            "paths => paths.filter(path => getComputedStyle(path).display !== 'none').map(path => path.classList[1])"
        )
        assert set(shown) == expected, layer
        assert page.locator("#viewer-map").is_visible() == (layer == "probability")
        named = len(expected) + (layer == "probability")
        assert page.locator("#viewer-legend li:visible").count() == named
    for path in page.locator("#viewer-marks > path").all():
        assert path.get_attribute("d").startswith("M")


def test_the_probability_is_painted_where_the_lesion_is(visit):
    page = visit()
    page.locator("#image-table .open").nth(4).click()
    page.keyboard.press("6")
    page.locator("#viewer-map:not([width='1'])").wait_for(state="attached")
    opacity = page.locator("#viewer-map").evaluate("""canvas => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const found = Array.from({ length: data.length / 4 }, (_, at) => data[4 * at + 3]);
      return [found[0], Math.max(...found)];
    }""")
    assert opacity[0] < 20 and opacity[1] > 150


def test_a_scale_bar_is_as_long_as_it_says(visit, made):
    page = visit()
    page.locator("#image-table .open").nth(4).click()
    row = next(row for row in made[1].index if row.source_id == "scan 4")
    bar, stage = page.locator("#viewer-scale"), page.locator("#viewer-stage")
    share = bar.bounding_box()["width"] / stage.bounding_box()["width"]
    length = float(bar.inner_text().removesuffix(" mm"))
    assert length == pytest.approx(share * row.width * row.spacing_mm[1], rel=0.02)


def test_what_is_known_of_an_image_is_told_as_text(visit):
    page = visit()
    page.locator("#image-table .open").nth(5).click()
    facts = " ".join(page.locator("#viewer-facts").inner_text().split())
    for told in (
        "Dice",
        "Change by the CRF",
        "HD95",
        "Device C",
        "BIRADS 3",
        f"note {HOSTILE}",
        "calipers yes",
        "Audit tiny mask",
    ):
        assert told in facts
    assert page.locator("#viewer-facts img, #viewer-title img").count() == 0


def test_thumbnails_are_drawn_when_they_come_into_view(visit):
    page = visit()
    page.locator("#image-table .scan img").first.wait_for()
    assert page.locator("#image-table .scan img").count() < 24
    page.locator("#image-table tbody tr").last.scroll_into_view_if_needed()
    page.locator("#image-table tbody tr:last-child .scan img").wait_for()
    assert page.locator("#image-table tbody tr:last-child .scan .line.truth").get_attribute("d").startswith("M")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_and_reads_well(visit, scheme, width):
    page = visit(viewport={"width": width, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ratio, where = page.evaluate(LEAST_CONTRAST)
    assert ratio >= 4.5, where
    page.locator("#image-table .open").nth(4).click()
    assert page.locator("#viewer").evaluate("element => element.scrollWidth <= element.clientWidth")
    for layer in range(len(LAYERS)):
        page.keyboard.press(str(layer + 1))
        ratio, where = page.evaluate(LEAST_CONTRAST)
        assert ratio >= 4.5, where
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_on_paper_all_rows_stand_and_no_control(visit):
    page = visit()
    page.emulate_media(media="print")
    assert page.locator("form.filters").is_hidden()
    scroll = page.locator("#images-scroll")
    assert scroll.evaluate("element => element.scrollHeight <= element.clientHeight + 1")
    assert len(names(page)) == 24
