"""Settings from TOML and back: recipes with overrides or made small by their preview, descriptions of data sets."""

import copy
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ustoolkit.errors import RecipeError
from ustoolkit.recipe.data_set import DataSetSettings
from ustoolkit.recipe.preview import fitting, no_preview, scale_group_size, take_preview, with_preview
from ustoolkit.recipe.settings import Recipe
from ustoolkit.recipe.validation import nearest, validate

_NOT_TOML = (
    ValueError,
    RecursionError,
)  # the parser lets numbers too long, and nesting too deep, escape as these


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package, in order."""
    return sorted(entry.name[:-5] for entry in _recipe_folder().iterdir() if entry.name.endswith(".toml"))


def has_preview(recipe: str | Path) -> bool:
    """Whether a recipe holds a table `[preview]`; argument and errors as for `load_recipe`."""
    return "preview" in _read_recipe(str(recipe))[1]


def load_recipe(recipe: str | Path, overrides: Iterable[str] = (), preview: bool = False) -> Recipe:
    """Reads a recipe and applies overrides.

    A recipe may hold a table `[preview]`, shaped like a recipe (`[preview.data]`, `[preview.model]`, …): the same
    experiment made small, to try it and not to judge it. It is checked even where it is not used.

    Args:
        recipe: a path to a TOML file, or the name of a shipped recipe.
        overrides: strings 'table.key=value' where the value is TOML, else taken as a string. Setting
            `model.name` starts the table `[model]` afresh, and in a preview then takes from `[preview.model]` what the
            network named has.
        preview: whether the values of `[preview]` replace the recipe's, before the overrides. The recipe's name becomes
            '<name>-preview'. Where the network has a `group_size` that the preview does not set itself, the group size,
            overridden or not, is the published one: it is scaled by the width of the first level here to that without
            the preview, and is at least 1.
    Returns:
        the resolved recipe; no `[preview]` is left in it.
    Raises:
        RecipeError: no such recipe, not TOML, an unknown key, a value that is not valid, or a preview of a recipe that
            has none.
    """
    place, content = _read_recipe(str(recipe))
    overrides = list(overrides)
    table = take_preview(content, place)
    if not preview:
        return validate(Recipe, _overridden(content, overrides), place)
    if table is None:
        raise no_preview(place, [name for name in shipped_recipes() if has_preview(name)])
    published = _overridden(content, overrides)
    narrow = validate(Recipe, _overridden(with_preview(content, table), overrides, table), place)
    return scale_group_size(narrow, published.get("model", {}), table, place)


def dump_toml(settings: BaseModel) -> str:
    """Every setting, defaults included, as TOML that `load_recipe` reads back to an equal value.

    A recipe's table `[classification]` is left out where the network segments.
    """
    import tomli_w

    unused = {"classification"} if isinstance(settings, Recipe) and not settings.classifies else None
    return tomli_w.dumps(settings.model_dump(mode="json", exclude=unused))


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


def _read_recipe(recipe: str) -> tuple[str, dict[str, Any]]:
    """Where a recipe is, for messages, and what it holds, not yet validated."""
    if recipe in shipped_recipes():
        place = f"recipe '{recipe}'"
        return place, _parse((_recipe_folder() / f"{recipe}.toml").read_text(encoding="utf-8"), place)
    path = Path(recipe)
    if path.suffix == ".toml" or path.is_file():
        return recipe, _parse(_read(path), recipe)
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


def _overridden(content: dict[str, Any], overrides: list[str], preview: dict[str, Any] | None = None) -> dict[str, Any]:
    result = copy.deepcopy(content)
    for override in overrides:
        _apply(result, override, preview or {})
    return result


def _apply(content: dict[str, Any], override: str, preview: dict[str, Any]) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set {override}: expected table.key=value, such as training.epochs=5.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except _NOT_TOML:
        value = text
    if parts == ["model", "name"]:
        content["model"] = copy.deepcopy(fitting(preview, value))
    table = content
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override}: '{part}' is a value, not a table of settings.")
    table[parts[-1]] = value
