"""What the documents quote from the code stands there, and what the site is built of is whole."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MESSAGE = re.compile(r"^```text\n(?P<text>.*?)\n```$", re.MULTILINE | re.DOTALL)
SHORTEST = 12  # characters that tell a message from others


def quoted(page):
    """The messages that a page quotes."""
    return [found["text"] for found in MESSAGE.finditer((ROOT / page).read_text(encoding="utf-8"))]


def fragments(message):
    """What a message always says: its text between the places that differ from case to case."""
    parts = [re.sub(r"\s+", " ", part).strip() for part in message.removeprefix("ustoolkit: ").split("…")]
    return [part for part in parts if re.search(r"\w", part)]


@cache
def said_by_the_code():
    """Every text in the code, its values left out, and what `make` prints."""
    texts = [(ROOT / "Makefile").read_text(encoding="utf-8")]
    for path in (ROOT / "ustoolkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(re.sub(r"[^\S\n]+", " ", text) for text in texts)


@pytest.mark.parametrize("message", quoted("docs/faq.md"), ids=lambda message: message[:60])
def test_a_quoted_message_is_one_of_the_code(message):
    found = fragments(message)
    assert found and max(map(len, found)) >= SHORTEST, f"too little to be recognised: {message}"
    missing = [part for part in found if part not in said_by_the_code()]
    assert not missing, f"the code says nothing like {missing}; quote the message as it is now"


def test_the_quotes_are_looked_for():
    assert len(quoted("docs/faq.md")) >= 30
    assert fragments("…: expected a run, found …. Train one.") == [": expected a run, found", ". Train one."]
    assert "expected a run folder, found a teapot" not in said_by_the_code()
