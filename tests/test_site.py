"""The site: every document and notebook in it, each link where it should lead, and nothing loaded from elsewhere."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import LEAST_CONTRAST, chromium

ROOT = Path(__file__).parent.parent
pytest.importorskip("mkdocs", reason="no mkdocs: pip install 'ustoolkit[docs]'")
sys.path.insert(0, str(ROOT / "website"))

import site_pages  # noqa: E402
from notebook_page import as_markdown  # noqa: E402

LOADED = re.compile(r"<(?:script|img|iframe|source)[^>]*?\ssrc=\"?([^\"\s>]+)|<link[^>]*?\shref=\"?([^\"\s>]+)")
IMPORTED = re.compile(r"@import[^;]*|url\((?![\"']?data:)[^)]*\)")


@pytest.mark.parametrize(
    ("path", "site"),
    [
        ("docs/audit.md", "audit.md"),
        ("docs/studies/fast.md", "studies/fast.md"),
        ("README.md", "readme.md"),
        ("tfrecords/README.md", "tfrecords/README.md"),
        ("benchmarks/README.md", "benchmarks/README.md"),
    ],
)
def test_a_page_is_found_from_either_side(path, site):
    assert site_pages.site_path(path) == site
    assert site_pages.repository_path(site) == path


def test_links_change_outside_of_code_alone():
    text = "[a](b.md)\n```sh\n[a](b.md)\n```\n[a](b.md)"
    changed = site_pages.outside_of_fences(text, lambda line: line.replace("b.md", "c.md"))
    assert changed == "[a](c.md)\n```sh\n[a](b.md)\n```\n[a](c.md)"


def test_the_navigation_lists_what_lies_in_a_folder():
    pages = ["a.md", "more/README.md", "more/api/x.md", "more/one.md"]
    assert site_pages.filled([{"A": "a.md"}, {"More": "more/**"}], pages) == [
        {"A": "a.md"},
        {"More": ["more/one.md", {"API": ["more/api/x.md"]}]},
    ]
    assert site_pages.filled([{"All": ["a.md", "more/**"]}], pages)[0]["All"][:2] == ["a.md", "more/one.md"]


def test_a_notebook_becomes_a_page_of_text_code_and_outputs():
    cells = [
        {"cell_type": "markdown", "source": ["# A title\n", "and text"]},
        {
            "cell_type": "code",
            "source": "print('ok')",
            "outputs": [{"text": ["ok\n"]}, {"data": {"image/png": "aGk=\n", "text/plain": "<Figure>"}}],
        },
    ]
    page = as_markdown({"cells": cells})
    assert page.startswith("# A title\nand text\n\n```python\nprint('ok')\n```\n\n```text\nok\n```\n\n<img ")
    assert 'src="data:image/png;base64,aGk="' in page and "<Figure>" not in page


def test_every_committed_notebook_can_be_shown():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert as_markdown(json.loads(path.read_text(encoding="utf-8"))).startswith("# "), path.name


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as `make docs` builds it, where a warning is an error."""
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0 and not built.stderr, built.stderr
    return folder


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        for found in LOADED.findall(page.read_text(encoding="utf-8")):
            address = found[0] or found[1]
            if address.startswith("data:"):
                continue
            parts = urlsplit(address)
            assert not parts.netloc, f"{page.name}: {address}"
            base = site if parts.path.startswith("/") else page.parent
            assert (base / unquote(parts.path).lstrip("/")).exists(), f"{page.name}: {address}"
    for style in site.rglob("*.css"):
        for found in IMPORTED.findall(style.read_text(encoding="utf-8")):
            assert "//" not in found, f"{style.name}: {found}"


@pytest.mark.slow
def test_every_document_is_in_the_site_and_found_by_its_navigation(site):
    front = (site / "index.html").read_text(encoding="utf-8")
    for name in ("readme", "contributing", "changelog", "tfrecords/index", "notebooks/index", "benchmarks/index"):
        assert (site / f"{name}.html").is_file() and f'href="{name}.html"' in front, name
    for path in (ROOT / "docs").rglob("*.md"):
        name = path.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / name).is_file() and f'href="{name}"' in front, name


@pytest.mark.slow
def test_a_reader_opens_it_from_disk_searches_it_and_nothing_leaves(site):
    asked, complaints = [], []
    with chromium() as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((site / "index.html").as_uri())
        page.get_by_role("link", name="From your labelme folder to a report").first.click()
        page.wait_for_url("**/tutorials/labelme.html")
        page.locator("input[name=query]").press_sequentially("hausdorff", delay=50)
        page.locator(".md-search-result__item").first.wait_for()
    assert not complaints
    assert not [address for address in asked if urlsplit(address).scheme not in ("file", "data", "blob")]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "tutorials/deploy.html", "reference/recipes.html"])
def test_text_can_be_read(site, scheme, name):
    with chromium() as browser:
        page = browser.new_context(color_scheme=scheme).new_page()
        page.goto((site / name).as_uri())
        page.locator(".md-skip").evaluate("link => link.remove()")  # seen only where a key leads to it
        ratio, element = page.evaluate(LEAST_CONTRAST)
    assert ratio >= 4.5, element
