"""Sections of docstrings for the pages on the library: they follow one another without blank lines in the code."""

import re
from typing import Any

import griffe

SECTION = re.compile(r"\n(?=(?:Args|Attributes|Raises|Returns|Yields):\n +\S)")


class DocstringSections(griffe.Extension):
    """Puts the blank line above a section that Google's style asks for."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Changes the object's docstring, which is not parsed yet."""
        if obj.docstring:
            obj.docstring.value = SECTION.sub("\n\n", obj.docstring.value)
