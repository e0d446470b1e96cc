"""Settings from TOML and back, with messages that name the key, and the nearest valid one."""

import difflib
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ustoolkit.errors import RecipeError
from ustoolkit.recipe.data_set import DataSetSettings
from ustoolkit.recipe.settings import Recipe

SettingsType = TypeVar("SettingsType", bound=BaseModel)
_NOT_TOML = (
    ValueError,
    RecursionError,
)  # the parser lets numbers too long, and nesting too deep, escape as these


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package, in order."""
    return sorted(entry.name[:-5] for entry in _recipe_folder().iterdir() if entry.name.endswith(".toml"))


def load_recipe(recipe: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe and applies overrides.

    Args:
        recipe: a path to a TOML file, or the name of a shipped recipe.
        overrides: strings 'table.key=value' where the value is TOML, else taken as a string. Setting
            `model.name` starts the table `[model]` afresh.
    Raises:
        RecipeError: no such recipe, not TOML, an unknown key, or a value that is not valid.
    """
    place, text = _read_recipe(str(recipe))
    content = _parse(text, place)
    for override in overrides:
        _apply(content, override)
    return validate(Recipe, content, place)


def dump_toml(settings: BaseModel) -> str:
    """Every setting, defaults included, as TOML that `load_recipe` reads back to an equal value."""
    import tomli_w

    return tomli_w.dumps(settings.model_dump(mode="json"))


def load_data_set(path: Path) -> DataSetSettings:
    """Reads a data set's description; a relative `path` in it is taken from the file's own folder.

    Raises:
        RecipeError: not TOML, an unknown key, or a value that is not valid.
    """
    settings = validate(DataSetSettings, _parse(_read(path), str(path)), str(path))
    changes = {"name": settings.name or path.stem}
    if settings.path:
        changes["path"] = str(path.parent / Path(settings.path).expanduser())
    return settings.model_copy(update=changes)


def validate(kind: type[SettingsType], content: dict[str, Any], place: str) -> SettingsType:
    """Validates a table read from TOML or JSON; all that is wrong is said in one message.

    Raises:
        RecipeError: with the place, each key that is wrong, and the nearest valid name.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as problem:
        lines = "\n  ".join(_explain(kind, error) for error in problem.errors())
        raise RecipeError(f"{place}: settings that are not valid:\n  {lines}") from None


def _read_recipe(recipe: str) -> tuple[str, str]:
    if recipe in shipped_recipes():
        return f"recipe '{recipe}'", (_recipe_folder() / f"{recipe}.toml").read_text(encoding="utf-8")
    path = Path(recipe)
    if path.suffix == ".toml" or path.is_file():
        return recipe, _read(path)
    names = shipped_recipes()
    shipped = ", ".join(names)
    raise RecipeError(f"'{recipe}': expected a recipe file, or a shipped one ({shipped}). {nearest(recipe, names)}")


def _recipe_folder() -> Any:
    return resources.files("ustoolkit") / "recipes"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file. Check the path.") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise RecipeError(f"{path}: expected a TOML text file ({problem}).") from None


def _parse(text: str, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except _NOT_TOML as problem:
        raise RecipeError(f"{place}: expected TOML, found something else: {problem}.") from None


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set {override}: expected table.key=value, such as training.epochs=5.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except _NOT_TOML:
        value = text
    if parts == ["model", "name"]:
        content["model"] = {}
    table = content
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override}: '{part}' is a value, not a table of settings.")
    table[parts[-1]] = value


def _explain(kind: type[BaseModel], error: Any) -> str:
    location = error["loc"]
    key = ".".join(str(part) for part in location) or "together"
    if error["type"] == "extra_forbidden":
        return f"{key}: no such setting. {nearest(str(location[-1]), _names(kind, location[:-1]))}"
    found = "" if error["type"] in ("missing", "value_error") else f", found {error['input']!r}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}{found}"


def _names(kind: Any, location: tuple[Any, ...]) -> list[str]:
    for part in location:
        field = kind.model_fields.get(part) if hasattr(kind, "model_fields") else None
        if field is None:
            return []
        kind = field.annotation
    return list(kind.model_fields) if hasattr(kind, "model_fields") else []


def nearest(name: str, valid: list[str]) -> str:
    """A sentence that offers the valid names nearest to a mistyped one, or all of them."""
    close = difflib.get_close_matches(name, valid, n=2, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(f"'{match}'" for match in close) + "?"
    return f"Valid names: {', '.join(valid)}." if valid else ""
