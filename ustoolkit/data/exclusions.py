"""The list of images to leave out: a text file that a person can read, change and add to."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from ustoolkit.errors import DataError
from ustoolkit.files import write_text

_COMMENT = re.compile(r"(?:^|\s\s|\t)\s*#.*", re.DOTALL)  # after one space it is part of an id
_LINE_END = re.compile(r"\r\n|\n|\r")
_HEADER = """\
# Images to leave out, one id a line. What follows two spaces and a '#' says why.
# Delete a line to keep its image.
"""


def read_exclusions(path: Path | str) -> set[str]:
    """Reads the ids of images to leave out.

    Args:
        path: UTF-8 text, one source id a line. `#` starts a comment at the start of a line, or after two spaces. An
            id that cannot stand so is in double quotes, as in JSON.
    Returns:
        the ids; an id that no image has is the caller's to warn of.
    Raises:
        DataError: the file cannot be read as text.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such list. Check the path, or write one with 'ustoolkit inspect PATH --exclude {path}'."
        ) from None
    except OSError as problem:
        raise DataError(f"{path}: the list cannot be read ({problem.strerror}). Check the path.") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: expected UTF-8 text, one image id a line ({problem}). Save it as UTF-8.") from None
    return {source_id for line in _LINE_END.split(text) if (source_id := _source_id(line))}


def write_exclusions(path: Path | str, reasons: Mapping[str, str]) -> None:
    """Writes the ids of images to leave out, in their order, each with its reason as a comment.

    Args:
        path: the file; one that is there is replaced.
        reasons: why, by source id; '' for no comment.
    Raises:
        OutputError: the file cannot be written.
    """
    lines = []
    for source_id, reason in reasons.items():
        plain = _source_id(source_id) == source_id and not re.search(r'^"|[\r\n]', source_id)
        name = source_id if plain else json.dumps(source_id)
        lines.append(f"{name}  # {' '.join(reason.split())}" if reason.strip() else name)
    write_text(path, _HEADER + "".join(f"{line}\n" for line in lines))


def _source_id(line: str) -> str:
    if line.lstrip().startswith('"'):
        try:
            name, _ = json.JSONDecoder().raw_decode(line.lstrip())
            return name
        except ValueError:
            pass  # a hand wrote an id that begins with a quote
    return _COMMENT.sub("", line).strip()
