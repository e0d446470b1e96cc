"""The page, in a real browser, on a real server with a real export."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.browser import LEAST_CONTRAST, chromium, visits
from tests.classifiers import FINE_TUNING, trained
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.phantom import phantom_samples
from ustoolkit.export.exports import ExportSettings, export_runs
from ustoolkit.run import Run

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
expect = playwright.expect

HOSTILE = "<img src=x onerror=alert(1)>.png"
SERVE = """
import sys
from pathlib import Path
from ustoolkit.serving.server import serve
from ustoolkit.serving.settings import ServerSettings
serve(ServerSettings(export=Path(sys.argv[1]), port=0))
"""


@contextlib.contextmanager
def served(export):
    """The address of a server in a process of its own, which is ended as a person ends it."""
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(export)], stdout=subprocess.PIPE, text=True)
    try:
        told = process.stdout.readline()
        assert "http://" in told, told
        yield told[told.index("http://") :].strip()
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def address(exported):
    """Where the tiny network is served."""
    with served(exported) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser):
    """Opens the page; in the end nothing may have been asked of another host, nor complained of in the console."""
    with visits(browser) as opened:

        def shown(address, expected=(), **settings):
            page = opened(address, expected, **settings)
            expect(page.locator("#examples img").first).to_be_visible()
            return page

        yield shown


def choose(page, *files):
    """Chooses files, (name, content) each, as the button's dialogue does."""
    found = [{"name": name, "mimeType": "application/octet-stream", "buffer": content} for name, content in files]
    page.set_input_files("#files", found)


def pick(page, number=0):
    """Picks an example and waits until it is outlined."""
    page.locator("#examples button").nth(number).click()
    expect(page.locator("#result")).to_be_visible()


def downloaded(page, button):
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return waiting.value.suggested_filename, waiting.value.path().read_bytes()


@pytest.fixture(scope="module")
def scan():
    """A phantom's PNG, which says nothing of its spacing."""
    return encode_png(next(phantom_samples(1, seed=11, size=(96, 128))).image)


def test_an_example_is_outlined_measured_and_taken_along(visit, address):
    page = visit(address)
    expect(page.locator("#notice")).to_contain_text("no medical device")
    # A tunnel's near end is this machine, and the server another.
    expect(page.locator("#privacy")).to_have_text("Images go only to the server of this page, and are not kept.")
    pick(page)
    assert page.locator("#marks .contour").count() >= 1
    assert page.locator("#marks .caliper.long, #marks .caliper.short").count() == 2
    values = page.locator("#measurements .value").all_inner_texts()
    assert [value.split()[1] for value in values] == ["mm", "mm", "mm²"]
    assert float(values[0].split()[0]) >= float(values[1].split()[0]) > 0
    said = page.locator("#stage").get_attribute("aria-label")
    assert "a lesion is outlined" in said and values[0] in said
    expect(page.locator("#status")).to_contain_text(values[0])

    size = re.match(r"(\d+) × (\d+) pixels", page.locator("#image-line").inner_text())
    width, height = int(size[1]), int(size[2])
    name, content = downloaded(page, "Mask (PNG)")
    mask = Image.open(io.BytesIO(content))
    assert name == "Phantom_1_mask.png" and mask.format == "PNG" and mask.size == (width, height)
    lesion = np.asarray(mask) > 0
    assert lesion.any()
    name, content = downloaded(page, "Outline (labelme)")
    outline = json.loads(content)
    assert name == "Phantom_1.json" and outline["imagePath"] == "Phantom_1.png"
    assert (outline["imageWidth"], outline["imageHeight"]) == (width, height)
    points = np.array([point for shape in outline["shapes"] for point in shape["points"]])
    assert len(points) >= 3 and (points >= 0).all() and (points < [width, height]).all()
    rows, columns = np.nonzero(lesion)
    np.testing.assert_allclose(points.min(axis=0), [columns.min(), rows.min()], atol=1)
    np.testing.assert_allclose(points.max(axis=0), [columns.max(), rows.max()], atol=1)
    name, content = downloaded(page, "Image (PNG)")
    assert name == "Phantom_1.png" and Image.open(io.BytesIO(content)).size == (width, height)


def test_a_scan_without_spacing_is_measured_again_with_one(visit, address, scan):
    page = visit(address)
    choose(page, ("scan.png", scan))
    form = page.locator("#spacing-form")
    expect(form).to_be_visible()
    pixels = page.locator("#measurements .value").all_inner_texts()
    assert all(value.endswith("pixels") for value in pixels)
    page.get_by_label("Rows, mm per pixel").fill("0.5")
    form.get_by_role("button").click()
    expect(page.locator("#measurements .value").first).to_contain_text("mm")
    for before, after, factor in zip(
        pixels, page.locator("#measurements .value").all_inner_texts(), (0.5, 0.5, 0.25), strict=True
    ):
        expected = float(before.split()[0].replace(",", "")) * factor
        assert float(after.split()[0].replace(",", "")) == pytest.approx(expected, abs=0.6 if factor < 0.5 else 0.11)
    expect(page.locator("#spacing-line")).to_contain_text("as you gave it")
    name, content = downloaded(page, "Outline (labelme)")
    assert name == "scan.json" and json.loads(content)["imagePath"] == "scan.png"


def give_spacing(page, **distances):
    """Fills the named fields of the form, rows or columns, and measures again."""
    for field, value in distances.items():
        page.locator(f"#spacing-{field}").fill(value)
    page.get_by_role("button", name="Measure again").click()


def fields(page):
    return page.locator("#spacing-rows").input_value(), page.locator("#spacing-columns").input_value()


def expect_spacing(page, rows, columns):
    expect(page.locator("#spacing-line")).to_have_text(
        f"Pixel: {rows:.4f} × {columns:.4f} mm (rows × columns), as you gave it."
    )


def test_correcting_the_rows_alone_corrects_the_columns_too(visit, address, scan):
    page = visit(address)
    choose(page, ("scan.png", scan))
    give_spacing(page, rows="0.8")
    expect_spacing(page, 0.8, 0.8)
    give_spacing(page, rows="0.08")
    expect_spacing(page, 0.08, 0.08)
    give_spacing(page, columns="0.1")
    expect_spacing(page, 0.08, 0.1)
    give_spacing(page, columns="0.08")
    expect_spacing(page, 0.08, 0.08)

    choose(page, ("other.png", scan))
    expect(page.locator("#file-name")).to_have_text("other.png")
    assert fields(page) == ("", "")  # what one file was given says nothing of the next
    page.locator("#list button").first.click()
    expect(page.locator("#file-name")).to_have_text("scan.png")
    assert fields(page) == ("0.08", "")
    give_spacing(page, rows="0.2")
    expect_spacing(page, 0.2, 0.2)


@pytest.mark.parametrize("first_fails", [False, True])
def test_a_second_correction_waits_for_the_first(visit, address, scan, first_fails):
    page = visit(address, expected=("ERR_FAILED",))
    choose(page, ("scan.png", scan))
    long_diameter = page.locator("#measurements .value").first
    expect(long_diameter).to_contain_text("pixels")
    pixels = float(long_diameter.inner_text().split()[0])
    held = []
    page.route("**/segment*", lambda route: held.append(route))
    give_spacing(page, rows="0.1")
    expect(page.locator("#working")).to_be_visible()
    give_spacing(page, rows="0.2")
    expect(page.locator("#list .state")).to_have_text("waiting")
    expect(page.locator("#working")).to_be_visible()
    page.locator("#spacing-rows").fill("0.3")  # typed, not yet sent
    assert len(held) == 1

    with page.expect_request("**/segment*"):
        held[0].abort() if first_fails else held[0].continue_()
    if not first_fails:
        expect_spacing(page, 0.1, 0.1)
        assert float(long_diameter.inner_text().split()[0]) == pytest.approx(0.1 * pixels, abs=0.06)
    assert fields(page) == ("0.3", "")
    expect(page.locator("#problem")).to_be_hidden()
    held[1].continue_()
    expect_spacing(page, 0.2, 0.2)
    assert float(long_diameter.inner_text().split()[0]) == pytest.approx(0.2 * pixels, abs=0.06)
    expect(page.locator("#list .state")).to_contain_text("lesion")
    assert len(held) == 2


def test_a_bad_file_says_why_and_leaves_the_page_working(visit, address, scan):
    page = visit(address, expected=("status of 4",))
    choose(page, ("first.png", scan))
    expect(page.locator("#result")).to_be_visible()
    choose(page, ("scan.png", b"These are words and no picture."))
    expect(page.get_by_role("alert")).to_contain_text("scan.png could not be outlined")
    assert len(page.locator("#problem-text").inner_text()) > 20
    expect(page.locator("#retry")).to_be_hidden()
    expect(page.locator("#earlier")).to_have_text("Still the earlier file: first.png")
    expect(page.locator("#file-name")).to_have_text("first.png, the earlier file")
    choose(page, ("second.png", scan))
    expect(page.locator("#file-name")).to_have_text("second.png")
    expect(page.locator("#problem")).to_be_hidden()
    expect(page.locator("#earlier")).to_be_hidden()


def test_several_files_are_taken_in_turn_and_names_are_text(visit, address, scan):
    page = visit(address, expected=("status of 4",))
    choose(page, (HOSTILE, scan), ("words.png", b"words"), ("<b>third</b>.png", scan))
    expect(page.locator("#progress")).to_have_text("3 of 3")
    assert page.locator("#list .name").all_inner_texts() == [HOSTILE, "words.png", "<b>third</b>.png"]
    assert page.locator("#list .state").nth(1).inner_text() == "not outlined"
    expect(page.locator("#file-name")).to_have_text(HOSTILE)
    assert page.locator("#list img, #list b, #result img").count() == 0
    name, _ = downloaded(page, "Mask (PNG)")
    assert name == "img_src_x_onerror_alert_1_mask.png"
    page.get_by_role("button", name="Clear the list").click()
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#result")).to_be_hidden()
    assert page.locator("#list li").count() == 0


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_files_are_dropped_and_pasted(visit, address, scan, way):
    page = visit(address)
    page.evaluate(
        """([way, name, bytes]) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([new Uint8Array(bytes)], name));
          const kinds = { drop: () => new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }),
                          paste: () => new ClipboardEvent("paste", { clipboardData: dataTransfer, bubbles: true }) };
          document.body.dispatchEvent(kinds[way]());
        }""",
        [way, f"{way}.png", list(scan)],
    )
    expect(page.locator("#file-name")).to_have_text(f"{way}.png")


def test_the_keyboard_alone_does_it(visit, address):
    page = visit(address)
    page.locator("#examples button").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#result")).to_be_visible()
    page.locator("#show-map").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")  # zoom out
    order = [page.evaluate("document.activeElement.id")]
    while order[-1] != "opacity" and len(order) < 10:
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id"))
    assert order[-1] == "opacity"
    before = float(page.locator("#map").evaluate("element => getComputedStyle(element).opacity"))
    page.keyboard.press("ArrowLeft")
    after = float(page.locator("#map").evaluate("element => getComputedStyle(element).opacity"))
    assert 0 < after < before < 1
    page.locator("#viewport").focus()
    assert page.locator("#viewport").evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    fitted = page.locator("#stage").bounding_box()["width"]
    page.keyboard.press("+")
    assert page.locator("#stage").bounding_box()["width"] == pytest.approx(1.25 * fitted, rel=0.01)
    page.keyboard.press("0")
    assert page.locator("#stage").bounding_box()["width"] == pytest.approx(fitted, rel=0.01)


def test_what_waits_can_be_cancelled_and_taken_up_again(visit, address, scan):
    page = visit(address, expected=("ERR_ABORTED",))
    held = []
    page.route("**/segment*", lambda route: held.append(route))
    choose(page, ("one.png", scan), ("two.png", scan))
    expect(page.locator("#working-text")).to_have_text("Outlining one.png…")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#working")).to_be_hidden()
    assert page.locator("#list .state").all_inner_texts() == ["cancelled", "cancelled"]
    assert len(held) == 1
    page.unroute("**/segment*")
    page.locator("#list button").nth(1).click()
    expect(page.locator("#file-name")).to_have_text("two.png")


def test_a_server_that_is_gone_is_said_and_can_be_tried_again(visit, address, scan):
    page = visit(address, expected=("ERR_FAILED",))
    page.route("**/segment*", lambda route: route.abort())
    choose(page, ("scan.png", scan))
    expect(page.get_by_role("alert")).to_contain_text("gave no answer")
    page.unroute("**/segment*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#file-name")).to_have_text("scan.png")
    expect(page.get_by_role("alert")).to_be_hidden()


def turned_away(page, status, retry_after, times):
    """Has the first requests refused as a busy server does; each one's address joins the list that is returned."""
    asked = []
    named = {} if retry_after is None else {"Retry-After": retry_after}

    def answer(route):
        asked.append(route.request.url)
        if len(asked) > times:
            route.continue_()
        else:
            route.fulfill(status=status, headers=named, json={"error": "Many are waiting."})

    page.route("**/segment*", answer)
    return asked


@pytest.mark.parametrize(("status", "retry_after", "seconds"), [(503, "1", 1), (429, "60", 10)])
def test_a_busy_server_is_asked_once_more_when_it_says(visit, address, scan, status, retry_after, seconds):
    page = visit(address, expected=("status of",))
    asked = turned_away(page, status, retry_after, times=3)
    page.clock.install(time=0)
    page.clock.pause_at(1000)
    alert, working = page.get_by_role("alert"), page.locator("#working-text")
    choose(page, ("scan.png", scan))
    expect(working).to_have_text(f"The server is busy, asking again in {seconds} s…")
    page.clock.run_for(1000 * seconds - 1)
    page.wait_for_timeout(200)  # nothing may follow yet, so there is nothing to wait for
    assert len(asked) == 1
    expect(alert).to_be_hidden()
    page.clock.run_for(1)
    expect(alert).to_contain_text("Many are waiting.")
    assert len(asked) == 2

    page.get_by_role("button", name="Try again").click()
    expect(working).to_contain_text("asking again")
    page.clock.run_for(1000 * seconds)
    expect(page.locator("#file-name")).to_have_text("scan.png")
    expect(alert).to_be_hidden()
    assert len(asked) == 4


def test_a_server_that_names_no_time_is_left_to_the_person(visit, address, scan):
    page = visit(address, expected=("status of",))
    for number, (status, retry_after) in enumerate([(503, None), (503, "later"), (500, "0")]):
        asked = turned_away(page, status, retry_after, times=1)
        choose(page, (f"{number}.png", scan))
        expect(page.locator("#problem-title")).to_contain_text(f"{number}.png")
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        assert len(asked) == 1


def test_the_wait_for_a_busy_server_can_be_cancelled(visit, address, scan):
    page = visit(address, expected=("status of",))
    asked = turned_away(page, 503, "5", times=1)
    page.clock.install(time=0)
    page.clock.pause_at(1000)
    choose(page, ("scan.png", scan))
    expect(page.locator("#working-text")).to_contain_text("asking again")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#list .state")).to_have_text("cancelled")
    expect(page.locator("#working")).to_be_hidden()
    page.clock.run_for(10_000)
    page.wait_for_timeout(200)
    assert len(asked) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1440])
def test_it_fits_and_reads_well(visit, address, scheme, width):
    page = visit(address, viewport={"width": width, "height": 740}, color_scheme=scheme)
    pick(page)
    page.locator("#show-map").check()
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#about-content").inner_text().count("Network") >= 1
    ratio, where = page.evaluate(LEAST_CONTRAST)
    assert ratio >= 4.5, where
    page.mouse.wheel(0, 3000)
    assert page.locator("#notice").bounding_box()["y"] >= 0
    expect(page.locator("#notice")).to_be_in_viewport()


@pytest.mark.slow
def test_the_oldest_of_many_results_are_let_go_and_come_back_when_chosen(visit, address):
    page = visit(address)
    scans = phantom_samples(52, seed=2, size=(32, 32))
    choose(page, *((f"{number}.png", encode_png(scan.image)) for number, scan in enumerate(scans)))
    expect(page.locator("#progress")).to_have_text("52 of 52", timeout=60_000)
    states = page.locator("#list .state")
    kept = [state for state in states.all_inner_texts() if "lesion" in state]
    assert len(kept) == 50
    expect(page.locator("#file-name")).to_have_text("0.png")  # what is looked at stays
    expect(states.nth(1)).to_contain_text("let go")
    page.locator("#list button").nth(1).click()
    expect(page.locator("#file-name")).to_have_text("1.png")


@pytest.mark.slow
def test_no_lesion_is_said_without_reassurance(visit, trained_run, scan, tmp_path):
    run = Run(shutil.copytree(trained_run.folder, tmp_path / "run"))
    run.keep_tuned("threshold", {"threshold": 0.999}, {})
    with served(export_runs([run], tmp_path / "strict").parent) as address:
        page = visit(address)
        pick(page)
        expect(page.locator("#finding")).to_have_text("No lesion outlined")
        expect(page.locator("#finding-note")).to_contain_text("does not prove")
        assert "no lesion outlined" in page.locator("#stage").get_attribute("aria-label")
        assert page.locator("#marks > *").count() == page.locator("#measurements > *").count() == 0
        expect(page.locator("#spacing-form")).to_be_hidden()
        _, content = downloaded(page, "Mask (PNG)")
        assert not np.asarray(Image.open(io.BytesIO(content))).any()
        _, content = downloaded(page, "Outline (labelme)")
        assert json.loads(content)["shapes"] == []


@pytest.mark.slow
def test_a_diagnosis_shows_probability_threshold_and_decision(visit, served_run, labelled_records, tmp_path):
    classifier = trained(labelled_records, FINE_TUNING)
    folder = export_runs([served_run], tmp_path / "diagnosis", ExportSettings(name="both"), classifier)
    with served(folder.parent) as address:
        page = visit(address)
        pick(page)
        told = page.evaluate("""async () => {
          const image = await (await fetch("/examples/0")).blob();
          const headers = { "Content-Type": "application/octet-stream" };
          return (await (await fetch("/segment", { method: "POST", body: image, headers })).json()).diagnosis;
        }""")
        positive = told["label_probability"][told["labels"].index(told["positive"])]
        expect(page.locator("#decision")).to_have_text(f"Decision: {told['decision']}")
        expect(page.locator(".bar .line")).to_contain_text(f"Probability of {told['positive']}")
        expect(page.locator(".bar .line")).to_contain_text(f"{100 * positive:.1f} %")
        track, tick, fill = (page.locator(f".bar {each}").bounding_box() for each in (".track", ".tick", ".fill"))
        assert (tick["x"] + tick["width"] / 2 - track["x"]) / track["width"] == pytest.approx(
            told["threshold"], abs=0.02
        )
        assert fill["width"] / track["width"] == pytest.approx(positive, abs=0.02)
        expect(page.locator("#diagnosis-note")).to_have_text(told["note"])
        page.locator("summary").click()
        expect(page.locator("#about-content")).to_contain_text("densenet161")
