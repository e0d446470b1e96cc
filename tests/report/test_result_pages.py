"""The pages of a study, of two runs and of a classifier in a real browser: quiet, sortable, readable, by keyboard."""

import pytest

from tests.browser import LEAST_CONTRAST, chromium, visits
from tests.report.classifier_runs import make_classifier
from tests.report.runs import renamed
from tests.report.test_pair_page import make_pair
from tests.studies.runs import finish_all, options, silent, toy_study
from ustoolkit.report.classifier_page import write_classifier_page
from ustoolkit.report.pair_page import write_pair_page
from ustoolkit.report.study_page import write_study_page
from ustoolkit.studies.runner import run_study

HOSTILE = "<img src=x onerror=alert(1)>"
PAGES = ("study", "pair", "classifier")


def hostile(sample):
    return renamed(sample, f"{HOSTILE}{sample.source_id}", attributes={"device": HOSTILE + sample.source_id[-1:]})


@pytest.fixture(scope="module")
def addresses(tmp_path_factory, records):
    """Where the three pages lie, each with names that would do harm."""
    folder = tmp_path_factory.mktemp("pages")
    asked = options(records, folder / "study")
    finish_all(toy_study(), asked, records, lambda arm, seed, name: 0.7 + seed / 50 + (arm == "long") / 9)
    run_study(toy_study(), asked, silent)
    table = asked.out / "lengths.md"
    table.write_text(table.read_text().replace("| one |", f"| {HOSTILE} |"))
    first, other, _ = make_pair(folder / "pair", hostile)
    run, _ = make_classifier(folder / "classifier", hostile)
    paths = (write_study_page(asked.out), write_pair_page(first, other), write_classifier_page(run.folder))
    return {name: path.as_uri() for name, path in zip(PAGES, paths, strict=True)}


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser):
    with visits(browser) as opened:
        yield opened


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_quiet_and_as_wide_as_the_window(visit, addresses, name):
    page = visit(addresses[name], viewport={"width": 390, "height": 800})
    assert HOSTILE in page.locator("body").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("h1").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_all_text_can_be_read(visit, addresses, name, scheme):
    page = visit(addresses[name], color_scheme=scheme)
    ratio, where = page.evaluate(LEAST_CONTRAST)
    assert ratio >= 4.5, where


@pytest.mark.parametrize("name", PAGES)
def test_every_picture_is_there_on_paper_too(visit, addresses, name):
    page = visit(addresses[name])
    page.emulate_media(media="print")
    pictures = page.locator("img")
    assert pictures.evaluate_all("all => all.every((each) => each.complete && each.naturalWidth > 0)")
    assert not page.locator("form.filters").first.is_visible()


def column(page, table, number):
    return page.locator(f"{table} tbody tr:visible").evaluate_all(
        f"rows => rows.map((row) => row.cells[{number}].dataset.value ?? row.cells[{number}].textContent.trim())"
    )


def numbers(texts):
    return [float(text.replace("−", "-").replace("+", "")) for text in texts]


def test_images_are_sorted_by_keyboard_and_filtered(visit, addresses):
    page = visit(addresses["pair"])
    differences = numbers(column(page, "#images-table", 6))
    assert [abs(value) for value in differences] == sorted(map(abs, differences), reverse=True)
    heading = page.locator("#images-table").get_by_role("button", name="difference")
    heading.focus()
    page.keyboard.press("Enter")
    assert numbers(column(page, "#images-table", 6)) == sorted(differences)
    page.get_by_label("Difference from").fill("0.01")
    assert min(numbers(column(page, "#images-table", 6))) >= 0.01
    page.get_by_role("button", name="Show all").click()
    page.locator("output", has_text="all ").first.wait_for()
    page.locator("#images-table a").first.click()
    assert "#image-" in page.url and page.locator(".case:target").is_visible()


def test_outlines_can_be_hidden(visit, addresses):
    for name in ("pair", "classifier"):
        page = visit(addresses[name])
        assert page.locator(".overlay").first.is_visible() and not page.locator(".plain").first.is_visible()
        page.get_by_label("Show the images without outlines").press("Space")
        assert page.locator(".plain").first.is_visible() and not page.locator(".overlay").first.is_visible()


def test_mistakes_alone_are_shown_and_sorted_by_probability(visit, addresses):
    page = visit(addresses["classifier"])
    page.get_by_label("mistakes only").check()
    mistakes = column(page, "#images-table", 7)
    assert mistakes and set(mistakes) <= {"missed", "false alarm"}
    page.locator("#images-table").get_by_role("button", name="probability of malignant").click()
    shown = numbers(column(page, "#images-table", 5))
    assert shown == sorted(shown)
    page.locator("form.filters select").first.select_option("malignant")
    assert set(column(page, "#images-table", 7)) == {"missed"}


def test_tables_of_a_study_are_sorted_by_their_numbers(visit, addresses):
    page = visit(addresses["study"])
    table = "#table-1 table"
    heading = page.locator(table).get_by_role("button", name="Dice", exact=True)
    heading.click()
    ascending = numbers(column(page, table, 3))
    assert len(ascending) == 2 and ascending == sorted(ascending)
    heading.click()
    assert numbers(column(page, table, 3)) == ascending[::-1]
    page.get_by_label("Name has").fill("short")
    assert page.locator("#runs-table tbody tr:visible").count() == 2
