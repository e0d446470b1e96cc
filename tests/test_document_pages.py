"""Every page can be followed: its blocks run as written, from what a reader has by then to its end."""

import pytest

from tests.documents.markdown import pages, read_page
from tests.documents.reader import Shelf, follow, runnable
from tests.documents.warm import Warm

# What pages begin with, by place in their folder, as things of `SHELF` in `tests.documents.reader`. The others begin
# with what README ends with.
_RECORDS = {"data/records": "data/records"}
_AFTER_README = {
    **_RECORDS,
    "path/to/folder": "phantoms",
    "path/to/new/images": "images",
    "scan.png": "scan.png",
    "runs/fast": "runs/fast",
}
_RUNS = ("unet", "fast", "lighter", "features", "fast_classifier", "fused")
BEGINNINGS = {
    "README.md": {"path/to/folder": "phantoms", "path/to/new/images": "images", "scan.png": "scan.png"},
    "docs/comparing.md": {**_RECORDS, **{f"runs/{name}": f"runs/{name}" for name in _RUNS}},
    "docs/explain.md": {
        **_AFTER_README,
        "more": "more",
        "runs/pretrained": "runs/fast",
        "runs/tuned": "runs/tuned",
    },
    "docs/export.md": {
        **_RECORDS,
        **{f"runs/{name}": f"runs/{name}" for name in ("fast", "fold1", "fold2", "fold3", "fast_classifier")},
    },
    "docs/networks.md": {**_RECORDS, "runs/natural": "runs/natural"},
}
TUTORIALS = "docs/tutorials/"  # they begin with nothing
FOLLOWED = [page for page in pages() if runnable(page)]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shelf")
    with Warm(folder) as warm:
        yield Shelf(folder / "desk", warm)


@pytest.mark.slow
@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.name)
def test_a_page_can_be_followed(page, shelf, tmp_path):
    folder = tmp_path / "desk"
    folder.mkdir()
    beginning = {} if page.name.startswith(TUTORIALS) else BEGINNINGS.get(page.name, _AFTER_README)
    shelf.lay_out(beginning, folder)
    failure = follow(runnable(page), folder, shelf.warm)
    assert not failure, failure


def test_a_page_stops_at_the_block_that_fails_and_says_where(tmp_path):
    text = "```sh\ntouch made\n```\n\n```python\nopen('there')\n```\n\n```sh\ntouch never\n```\n"
    folder = tmp_path / "desk"
    folder.mkdir()
    failure = follow(runnable(read_page(text, "page.md")), folder)
    assert failure.startswith("page.md:6, exit code 1") and "FileNotFoundError" in failure
    assert sorted(path.name for path in folder.iterdir()) == [".venv", "made"]
