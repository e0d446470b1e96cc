"""A page of Markdown taken apart: fenced blocks, spans of code, links and what they lead to, code by indentation."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_FENCE = re.compile(r"^( *)(`{3,}|~{3,})\s*([\w+.-]*)")
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(.*?)\s*-->")
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(
    r"""\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)|^\[[^\]^]+\]:\s+(\S+)|(?:href|src)="([^"]+)\"""", re.MULTILINE
)
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$", re.MULTILINE)
# What carries on over indented lines: lists, and the site's boxes and tabs.
_CARRIES_ON = re.compile(r"^(?:[-*+]|\d+[.)]|!!!|\?\?\?\+?|===)\s")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        place: 'page:line' of its first line.
        language: as its fence names it; '' for none.
        text: its lines, without the fence and the indentation of the fence.
        not_run: why it is not run; None where it is.
    """

    place: str
    language: str
    text: str
    not_run: str | None


@dataclass(frozen=True)
class Page:
    """A document.

    Attributes:
        name: path from the root of the repository, with slashes.
        text: all of it.
        blocks: its fenced blocks, in order.
        prose: the text with the lines of fenced blocks empty, so that lines keep their numbers.
    """

    name: str
    text: str
    blocks: tuple[Block, ...]
    prose: str


def pages() -> list[Page]:
    """Every document whose commands are promised to run."""
    single = ("README.md", "CONTRIBUTING.md", "tfrecords/README.md", "notebooks/README.md", "benchmarks/README.md")
    found = [ROOT / name for name in single] + sorted((ROOT / "docs").rglob("*.md"))
    return [read_page(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()) for path in found]


def read_page(text: str, name: str) -> Page:
    """A page from its Markdown.

    Raises:
        ValueError: a fence is not closed.
    """
    blocks, prose, open_fence = [], [], None
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        match = _FENCE.match(line)
        if open_fence is None and not match:
            prose.append(line)
            continue
        prose.append("")
        if open_fence is None:
            comment = _NOT_RUN.search(lines[number - 2]) if number > 1 else None
            open_fence = (match, number + 1, comment[1] if comment else None)
        elif match and match[2].startswith(open_fence[0][2]) and not match[3]:
            start, first, reason = open_fence
            inner = [each.removeprefix(start[1]) for each in lines[first - 1 : number - 1]]
            blocks.append(Block(f"{name}:{first}", start[3], "\n".join(inner), reason))
            open_fence = None
    if open_fence:
        raise ValueError(f"{name}:{open_fence[1]}: a fence is not closed")
    return Page(name, text, tuple(blocks), "\n".join(prose))


def spans(page: Page) -> list[tuple[str, str]]:
    """Code within sentences: where ('page:line') and what, line ends turned to spaces."""
    return [
        (f"{page.name}:{page.prose[: match.start()].count(chr(10)) + 1}", " ".join(match[2].split()))
        for match in _SPAN.finditer(page.prose)
    ]


def indented_code(page: Page) -> list[str]:
    """Where a page has code by indentation alone, which says neither its language nor whether it runs."""
    found, before, carried = [], "", False
    for number, line in enumerate(page.prose.splitlines(), 1):
        if line.strip() and not line.startswith((" ", "\t")):
            carried = bool(_CARRIES_ON.match(line)) or (carried and bool(before.strip()))
        elif re.match(r"(?: {4}|\t)\s*\S", line) and not before.strip() and not carried:
            found.append(f"{page.name}:{number}")
        before = line
    return found


def links(page: Page) -> list[tuple[str, str]]:
    """Where ('page:line') and to what a page leads, addresses of the web left out."""
    text = _SPAN.sub(lambda match: "\n" * match[0].count("\n"), page.prose)
    found = []
    for match in _LINK.finditer(text):
        target = next(group for group in match.groups() if group)
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            found.append((f"{page.name}:{text[: match.start()].count(chr(10)) + 1}", target))
    return found


def anchors(text: str) -> tuple[set[str], set[str]]:
    """What '#…' may follow a page's name: on a git host, and on the site."""
    on_host, on_site = set(), set()
    for _, title in _HEADING.findall(read_page(text, "").prose):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").replace("*", "")
        host = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
        site = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())
        on_host.add(_free(host, on_host, "-"))
        on_site.add(_free(site, on_site, "_"))
    named = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    return on_host | named, on_site | named


def _free(anchor: str, taken: set[str], joint: str) -> str:
    """The anchor, numbered where an earlier heading has it."""
    numbered = (f"{anchor}{joint}{count}" for count in range(1, 1000))
    return anchor if anchor not in taken else next(each for each in numbered if each not in taken)
