"""Pages in a real browser: Chromium as the system has it, what it complains of, and how well text can be read."""

import contextlib
import shutil
from urllib.parse import urlsplit

import pytest

# Of each element with text of its own: the smallest ratio of contrast to the nearest opaque background, as WCAG has it.
LEAST_CONTRAST = """() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => colour.slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  let least = [99, ""];
  for (const element of document.querySelectorAll("body *:not(svg *)")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.matches("canvas, .skip, .visually-hidden, noscript *")) continue;
    const [one, other] = [luminance(rgba(getComputedStyle(element).color)), luminance(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < least[0]) least = [ratio, element.outerHTML.slice(0, 120)];
  }
  return least;
}"""


@contextlib.contextmanager
def chromium():
    """A browser without a window; the test is skipped where there is no Playwright or no Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no browser: none of chromium, chromium-browser and google-chrome is on the PATH")
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@contextlib.contextmanager
def visits(browser):
    """Opens pages; in the end they may have asked for nothing elsewhere, nor complained of anything in the console.

    Yields:
        a function of a page's address, words of complaints that are expected, and settings of the browser's context,
        that returns the page.
    """
    contexts, trouble = [], []

    def opened(address, expected=(), **settings):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)

        def complained(message):
            if not any(words in message.text for words in expected):
                trouble.append(message.text)

        page.on("request", lambda request: trouble.extend([request.url] if _elsewhere(request.url, address) else []))
        page.on("console", complained)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not trouble


def _elsewhere(url, address):
    """Whether a request leaves the page's server, or the one file that it is."""
    asked, page = urlsplit(url), urlsplit(address)
    if asked.scheme in ("data", "blob"):
        return False
    return asked.netloc != page.netloc or (page.scheme == "file" and asked.path != page.path)
