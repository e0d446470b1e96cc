"""What is wrong with a table of settings, said by the keys that a user writes, with the nearest valid name."""

import difflib
import re
from collections.abc import Iterator
from itertools import groupby
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ustoolkit.errors import RecipeError

SettingsType = TypeVar("SettingsType", bound=BaseModel)
_NO_TABLE = {"model_type", "model_attributes_type", "dict_type"}


def validate(kind: type[SettingsType], content: dict[str, Any], place: str, table: str = "") -> SettingsType:
    """Validates a table read from TOML or JSON; all that is wrong is said in one message.

    Args:
        kind: the settings that it should hold.
        content: what was read.
        place: where it was read from, for the message.
        table: dotted name of the table that `content` is; '' for the whole.
    Raises:
        RecipeError: with the place, each key that is wrong, and the nearest valid name.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as problem:
        raise refusal(_explain(kind, problem), place, table) from None


def problems(kind: type[BaseModel], content: dict[str, Any]) -> list[str]:
    """What is wrong with a table, one line (str) a setting, its key first; none where the table is valid."""
    try:
        kind.model_validate(content)
    except ValidationError as problem:
        return _explain(kind, problem)
    return []


def refusal(lines: list[str], place: str, table: str = "") -> RecipeError:
    """The error to raise for what `problems` found; arguments as for `validate`."""
    prefix = f"{table}." if table else ""
    listed = "".join(f"\n  {prefix}{line}" for line in lines)
    return RecipeError(f"{place}: settings that are not valid:{listed}")


def nearest(name: str, valid: list[str]) -> str:
    """A sentence that offers the valid names nearest to a mistyped one, or all of them."""
    return _close(name, valid) or (f"Valid names: {', '.join(valid)}." if valid else "")


def _close(name: object, valid: list[str]) -> str:
    close = difflib.get_close_matches(name, valid, n=2, cutoff=0.5) if isinstance(name, str) else []
    return "Did you mean " + " or ".join(f"'{match}'" for match in close) + "?" if close else ""


def _explain(kind: type[BaseModel], problem: ValidationError) -> list[str]:
    """One line for each error, but one for all that a setting of several forms, such as a word or a list, is not."""
    lines = []
    for form, group in groupby(problem.errors(), key=lambda error: _walk(kind, error["loc"])[2]):
        errors = list(group)
        if form is None:
            lines += [_line(kind, error) for error in errors]
            continue
        # Where an error lies within one form, such as an item of the list, that form was meant.
        within = [error for error in errors if len(_walk(kind, error["loc"])[0]) > len(form)]
        if within:
            lines += [_line(kind, error) for error in within]
        else:
            expected = ", or ".join(_message(error).removeprefix("input should be ") for error in errors)
            lines.append(f"{'.'.join(form)}: input should be {expected}{_found(errors)}")
    return lines


def _line(kind: type[BaseModel], error: Any) -> str:
    parts, reached, _ = _walk(kind, error["loc"])
    key = ".".join(parts) or "together"
    if error["type"] == "extra_forbidden":
        return f"{key}: {_no_such_setting(kind, error['loc'])}"
    if error["type"] == "union_tag_invalid":
        valid = [name for name, _ in _tagged(reached)]
        listed, found = ", ".join(f"'{name}'" for name in valid), error["input"]["name"]
        return f"{key}.name: expected one of {listed}, found {found!r}. {_close(found, valid)}".rstrip()
    return f"{key}: {_message(error)}{_found([error])}"


def _no_such_setting(kind: type[BaseModel], location: tuple[Any, ...]) -> str:
    name, (_, table, _) = str(location[-1]), _walk(kind, location[:-1])
    _, choice, _ = _walk(kind, location[:-2])
    others = [repr(tag) for tag, member in _tagged(choice) if name in member.model_fields]
    if others:
        return f"no such setting of '{location[-2]}', only of {', '.join(others)}."
    return f"no such setting. {nearest(name, list(table.model_fields) if _is_settings(table) else [])}"


def _message(error: Any) -> str:
    if error["type"] in _NO_TABLE:
        return "input should be a table of settings"
    message = error["msg"].removeprefix("Value error, ").replace(" after validation", "")
    message = message.replace("Tuple", "list").replace("tuple", "list")
    return message[0].lower() + message[1:]


def _found(errors: list[Any]) -> str:
    """What was found instead, and the nearest of the words that would have been valid."""
    value = errors[0]["input"]
    words = [
        word
        for error in errors
        if error["type"] == "literal_error"
        for word in re.findall(r"'([^']*)'", error["ctx"]["expected"])
    ]
    offer = _close(value, words)
    if errors[0]["type"] in ("missing", "value_error"):
        return ""
    return f", found {value!r}" + (f". {offer}" if offer else "")


def _walk(kind: Any, location: tuple[Any, ...]) -> tuple[list[str], Any, tuple[str, ...] | None]:
    """Follows an error's location, which also holds the names of forms and networks, through the settings' types.

    Returns:
        the parts of the key that a user writes; the type there, None where unknown; and the key of the setting of
        several forms that was passed, None where there was none.
    """
    parts: list[str] = []
    form = None
    kind = _bare(kind)
    for part in location:
        if get_origin(kind) in (Union, UnionType):
            tagged = dict(_tagged(kind))
            if part not in tagged:
                form = form or tuple(parts)
            kind = tagged.get(part)
            continue
        if part == "[key]":
            continue
        parts.append(str(part))
        kind = _inside(kind, part)
    return parts, kind, form


def _inside(kind: Any, part: Any) -> Any:
    """The type of a setting in a table, or of an item in a list; None where unknown."""
    if _is_settings(kind):
        field = kind.model_fields.get(part)
        return _bare(field.annotation) if field else None
    items = [item for item in get_args(kind) if item is not Ellipsis]
    if get_origin(kind) in (dict, tuple, list) and items:
        return _bare(items[min(part, len(items) - 1)] if isinstance(part, int) else items[-1])
    return None


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _tagged(kind: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The classes of a union that are told apart by their `name`, each with it."""
    if get_origin(kind) not in (Union, UnionType):
        return
    for member in map(_bare, get_args(kind)):
        if _is_settings(member) and "name" in member.model_fields:
            for name in get_args(member.model_fields["name"].annotation):
                yield name, member


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
