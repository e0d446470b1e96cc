"""Which values a setting takes, in words, from its type and its limits; and values as TOML."""

import json
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_NUMBERS = {int: "whole number", float: "number"}


def toml_value(value: Any) -> str:
    """A setting's value as TOML on one line, such as `[256, 256]` or `{ dice = 1.0 }`."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def accepted(kind: Any, limits: Iterable[Any] = ()) -> str:
    """Which values a setting takes.

    Args:
        kind: its type, as annotated.
        limits: what the annotation says beside the type, as pydantic keeps it.
    Returns:
        Markdown such as 'whole number, 1 or more' or '`"adam"`, `"sgd"`'.
    """
    limits = list(_flat(limits))
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return accepted(parts[0], [*parts[1:], *limits])
    if origin in (Union, UnionType):
        return ", or ".join(dict.fromkeys(accepted(part) for part in parts))
    if origin is Literal:
        return ", ".join(f"`{toml_value(part)}`" for part in parts)
    if origin is tuple:
        return _list(parts, limits)
    if origin is dict:
        return f"table; keys: {accepted(parts[0])}; values: {accepted(parts[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "table"
    if kind is bool:
        return "`true`, `false`"
    if kind in _NUMBERS:
        return _number(_NUMBERS[kind], limits)
    pattern = next((limit.pattern for limit in limits if getattr(limit, "pattern", None)), None)
    return f"text that fits `{pattern}`" if pattern else "text"


def _flat(limits: Iterable[Any]) -> Iterable[Any]:
    for limit in limits:
        if isinstance(limit, FieldInfo):
            yield from limit.metadata
        else:
            yield limit


def _list(items: Sequence[Any], limits: list[Any]) -> str:
    if not items:
        return "`[]`"
    texts = [accepted(item) for item in items if item is not Ellipsis]
    if Ellipsis not in items:
        return f"list of {len(items)}: {texts[0]}" if len(set(texts)) == 1 else f"list: {'; '.join(texts)}"
    least = next((limit.min_length for limit in limits if isinstance(limit, MinLen)), 0)
    most = next((limit.max_length for limit in limits if isinstance(limit, MaxLen)), None)
    if most is not None:
        return f"list of {least} to {most}: {texts[0]}"
    return f"list of {least} or more: {texts[0]}" if least else f"list: {texts[0]}"


def _number(noun: str, limits: list[Any]) -> str:
    """Of two limits, such as that of every fraction and a setting's own, the narrower counts."""
    lower: list[tuple[Any, str]] = [(limit.ge, "from") for limit in limits if isinstance(limit, Ge)]
    lower += [(limit.gt, "above") for limit in limits if isinstance(limit, Gt)]
    upper: list[tuple[Any, str]] = [(limit.le, "to") for limit in limits if isinstance(limit, Le)]
    upper += [(limit.lt, "below") for limit in limits if isinstance(limit, Lt)]
    least = max(lower, key=lambda limit: (limit[0], limit[1] == "above"), default=None)
    most = min(upper, key=lambda limit: (limit[0], limit[1] != "below"), default=None)
    if most is None:
        if least is None:
            return noun
        return f"{noun}, {least[0]:,} or more" if least[1] == "from" else f"{noun} above {least[0]:,}"
    end = f"at most {most[0]:,}" if most[1] == "to" else f"below {most[0]:,}"
    if least is None:
        return f"{noun}, {end}"
    if least[1] == "above":
        return f"{noun} above {least[0]:,}, {end}"
    return f"{noun} from {least[0]:,} to {most[0]:,}" if most[1] == "to" else f"{noun} from {least[0]:,}, {end}"
