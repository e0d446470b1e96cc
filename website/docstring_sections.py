"""Docstrings as the pages on the library need them; in the code their sections stand without blank lines between."""

import re
from typing import Any

import griffe

SECTION = re.compile(r"\n(?=(?:Args|Attributes|Raises|Returns|Yields):\n +\S)")
PLACEHOLDER = re.compile(r"(`[^`]*`)|<(\w+)>")  # outside of code, else HTML would take it for a tag
EXAMPLE = re.compile(r"(?:^>>> .*\n(?:(?!>>> ).+\n)*)+", re.MULTILINE)


class DocstringSections(griffe.Extension):
    """Puts the blank line above a section that Google's style asks for, and a title above what is typed at a prompt."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Changes the object's docstring, which is not parsed yet."""
        if obj.docstring:
            text = SECTION.sub("\n\n", PLACEHOLDER.sub(shown, obj.docstring.value))
            obj.docstring.value = EXAMPLE.sub(as_section, f"{text}\n").rstrip()


def shown(found: re.Match[str]) -> str:
    """A placeholder such as <name> as text; code as it is."""
    return found[1] or f"&lt;{found[2]}&gt;"


def as_section(example: re.Match[str]) -> str:
    """The lines of an example as a section of their own."""
    return "Examples:\n" + "".join(f"    {line}\n" for line in example[0].splitlines())
