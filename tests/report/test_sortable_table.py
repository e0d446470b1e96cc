"""Sorting and filtering of tables, in a real browser, on a page as templates make them."""

from importlib import resources

import pytest

from tests.browser import chromium, visits
from ustoolkit.report.rendering import digest

SCRIPT = resources.files("ustoolkit.report").joinpath("sortable_table.js").read_text(encoding="utf-8")
ROWS = [
    # name, label, score as written, its value
    ("scan 10", "benign", "1,200.5", ""),
    ("scan 2", "malignant", "−3", "no"),
    ("Scan 1", "benign", "–", "yes"),
    ("<b>scan</b>", "", "0.25 ± 0.1", "no"),
]


def page_text():
    rows = "".join(
        f'<tr data-name="{name.replace("<", "&lt;")}" data-label="{label}" data-missed="{missed}" '
        f'data-score="{value}"><th scope="row">{name.replace("<", "&lt;")}</th><td>{label or "–"}</td>'
        f'<td data-value="{value}">{written}</td><td>x</td></tr>'
        for (name, label, written, missed), value in zip(ROWS, ("1200.5", "-3", "", "0.25"), strict=True)
    )
    return f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>table</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src '{digest(SCRIPT)}'"></head><body>
<form class="filters" data-table="scans" hidden><input type="search" data-filter="contains" data-key="name">
<select data-filter="is" data-key="label"><option value="">all<option>benign<option>malignant</select>
<input type="number" step="any" id="low" data-filter="least" data-key="score">
<input type="number" step="any" id="high" data-filter="most" data-key="score">
<input type="checkbox" value="yes" data-filter="is" data-key="missed">
<button type="reset">all</button><output></output></form>
<table id="scans" class="sortable"><thead><tr><th scope="col">Name</th><th scope="col">Label</th>
<th scope="col" data-sort="number">Score</th><th scope="col" data-sort="none">Not</th></tr></thead>
<tbody>{rows}</tbody></table>
<script type="module">{SCRIPT}</script></body></html>"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser, tmp_path):
    path = tmp_path / "table.html"
    path.write_text(page_text(), encoding="utf-8")
    with visits(browser) as opened:
        yield opened(path.as_uri())


def names(page):
    return page.locator("tbody tr:visible th").all_inner_texts()


def test_headings_sort_by_number_and_by_word_and_back(page):
    assert page.locator("thead button").all_inner_texts() == ["Name", "Label", "Score"]
    heading = page.locator("thead th")
    page.get_by_role("button", name="Score").click()
    assert heading.nth(2).get_attribute("aria-sort") == "ascending"
    assert names(page) == ["scan 2", "<b>scan</b>", "scan 10", "Scan 1"]
    page.get_by_role("button", name="Score").click()
    assert heading.nth(2).get_attribute("aria-sort") == "descending"
    assert names(page) == ["scan 10", "<b>scan</b>", "scan 2", "Scan 1"]  # what has no number stays last
    page.get_by_role("button", name="Name").focus()
    page.keyboard.press("Enter")
    assert heading.nth(2).get_attribute("aria-sort") is None
    assert names(page)[-3:] == ["Scan 1", "scan 2", "scan 10"]
    page.get_by_role("button", name="Label").click()
    assert names(page)[-1] == "<b>scan</b>"


def test_equal_rows_stay_in_their_order(page):
    page.get_by_role("button", name="Name").click()
    page.get_by_role("button", name="Label").click()
    assert [name for name in names(page) if name in ("scan 10", "Scan 1")] == ["Scan 1", "scan 10"]


def test_fields_filter_together_and_are_reset(page):
    shown = page.locator("output")
    assert shown.inner_text() == "all 4 shown"
    page.locator("select").select_option("benign")
    assert names(page) == ["scan 10", "Scan 1"]
    page.locator("input[type=search]").fill("N 10")
    assert names(page) == ["scan 10"]
    assert shown.inner_text() == "1 of 4 shown"
    page.locator("button[type=reset]").click()
    page.locator("output", has_text="all 4 shown").wait_for()
    assert len(names(page)) == 4
    page.locator("#low").fill("-5")
    page.locator("#high").fill("1")
    assert names(page) == ["scan 2", "<b>scan</b>"]
    page.locator("#high").fill("")
    page.locator("#low").fill("")
    page.locator("input[type=checkbox]").check()
    assert names(page) == ["Scan 1"]


def test_a_table_says_when_its_rows_change(page):
    page.evaluate("""() => { window.changes = 0;
      document.querySelector("table").addEventListener("rowschange", () => window.changes++); }""")
    page.get_by_role("button", name="Score").click()
    page.locator("select").select_option("benign")
    assert page.evaluate("window.changes") == 2
