"""What the site shows beyond `docs/`: documents and notebooks that lie elsewhere in the repository, links among all.

The texts are written for a git host: links name files, relative to the file that has them. Here each link is turned to
where that file is in the site, and what lies outside of `docs/` is taken in.
"""

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebook_page import as_markdown

ROOT = Path(__file__).parent.parent
# The site's own first page is docs/index.md, and mkdocs would take a README beside it for another.
RENAMED = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
TAKEN_IN = (*RENAMED, "tfrecords/README.md", "notebooks/README.md", "benchmarks/README.md")
FOLDERS = {"ustoolkit/recipes": "docs/reference/recipes.md", "notebooks": "notebooks/README.md"}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
FENCE = re.compile(r"\s*(```|~~~)")
EVERYTHING_IN = "/**"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Takes in the documents and notebooks outside of `docs/`, and fills the navigation's folders."""
    for path in TAKEN_IN:
        files.append(File.generated(config, site_path(path), abs_src_path=str(ROOT / path)))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        content = as_markdown(json.loads(path.read_text(encoding="utf-8")))
        files.append(File.generated(config, site_path(f"notebooks/{path.name}"), content=content))
    pages = sorted(
        (file.src_uri for file in files.documentation_pages()), key=lambda page: ("index.md" not in page, page)
    )
    config.nav = filled(config.nav, pages)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns the page's links to files of the repository into links within the site."""
    here = repository_path(page.file.src_uri)

    def within_the_site(link: re.Match[str]) -> str:
        there = posixpath.normpath(posixpath.join(posixpath.dirname(here), link["target"]))
        there = FOLDERS.get(there, there)
        if not (ROOT / there).is_file():
            return link[0]  # mkdocs says what is wrong with it
        target = site_path(there)
        if files.get_file_from_path(target) is None:
            files.append(File.generated(config, target, abs_src_path=str(ROOT / there)))
        return posixpath.relpath(target, posixpath.dirname(page.file.src_uri)) + (link["anchor"] or "")

    return outside_of_fences(markdown, lambda line: LINK.sub(within_the_site, line))


def site_path(path: str) -> str:
    """Where a file of the repository is in the site's sources; both relative, with slashes."""
    path = path.removesuffix(".ipynb") + ".md" if path.endswith(".ipynb") else path
    return RENAMED.get(path, path.removeprefix("docs/"))


def repository_path(site: str) -> str:
    """The file of the repository that a page of the site is made of; the reverse of `site_path`."""
    for path, renamed in RENAMED.items():
        if renamed == site:
            return path
    outside = site.split("/")[0] in {Path(path).parent.name for path in TAKEN_IN}
    return site if outside else f"docs/{site}"


def outside_of_fences(markdown: str, change: Any) -> str:
    """Changes each line of a text that is no line of a fenced block."""
    lines, fence = [], ""
    for line in markdown.split("\n"):
        found = FENCE.match(line)
        if found and fence in ("", found[1]):
            fence = "" if fence else found[1]
        lines.append(line if fence or found else change(line))
    return "\n".join(lines)


def filled(entry: Any, pages: list[str]) -> Any:
    """A navigation in which `folder/**` stands for the folder's pages; of folders within, a section each.

    Args:
        entry: as in mkdocs.yml, or a part of it.
        pages: the site's, in the order in which they are to be listed.
    """
    if isinstance(entry, dict):
        return {title: _listed(below, pages) for title, below in entry.items()}
    if isinstance(entry, list):
        return [each for below in entry for each in _entries(below, pages)]
    return entry


def _entries(entry: Any, pages: list[str]) -> list[Any]:
    found = _listed(entry, pages)
    return found if isinstance(entry, str) and isinstance(found, list) else [found]


def _listed(entry: Any, pages: list[str]) -> Any:
    if not isinstance(entry, str) or not entry.endswith(EVERYTHING_IN):
        return filled(entry, pages)
    folder = entry.removesuffix("**")
    below = [page.removeprefix(folder) for page in pages if page.startswith(folder) and page != f"{folder}README.md"]
    sections = sorted({page.partition("/")[0] for page in below if "/" in page})
    return [
        *(folder + page for page in below if "/" not in page),
        *({_title(name): _listed(f"{folder}{name}/**", pages)} for name in sections),
    ]


def _title(folder: str) -> str:
    return folder.upper() if len(folder) <= 3 else folder.replace("_", " ").capitalize()
