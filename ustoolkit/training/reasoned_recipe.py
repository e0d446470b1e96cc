"""A recipe as TOML with the reason for each setting above it, and read back as any other."""

import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ustoolkit.errors import RecipeError
from ustoolkit.recipe import Recipe, load_recipe
from ustoolkit.training.automatic_start import NAME, START, Choice

_LINE = 118  # characters of a comment


def recipe_text(choices: Iterable[Choice], about: str) -> str:
    """TOML of a recipe named 'auto', each setting below a comment with its reason.

    Args:
        choices: settings by dotted name, each once.
        about: its description, a line, unless the user gives one.
    Returns:
        text that `load_recipe` reads.
    """
    tables: dict[str, list[Choice]] = {"": [Choice("name", NAME, ""), Choice("description", about, "")]}
    for choice in choices:
        table = choice.setting.rpartition(".")[0]
        tables.setdefault(table, [])
        tables[table] = [other for other in tables[table] if other.setting != choice.setting] + [choice]
    blocks = []
    for table, members in tables.items():
        lines = [f"[{table}]"] if table else []
        for choice in members:
            lines += textwrap.wrap(choice.reason, _LINE, initial_indent="# ", subsequent_indent="# ")
            lines.append(f"{choice.setting.rpartition('.')[2]} = {_value(choice.value)}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def read_text(text: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads what `recipe_text` wrote.

    Args:
        text: TOML.
        overrides: as of `load_recipe`.
    Raises:
        RecipeError: an override is not valid.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "auto.toml"
        path.write_text(text, encoding="utf-8")
        try:
            return load_recipe(path, overrides)
        except RecipeError as problem:
            raise RecipeError(str(problem).replace(str(path), f"recipe '{NAME}'")) from None


def own_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """The user's settings, checked as part of the recipe that the rules start from.

    Args:
        overrides: strings 'table.key=value'.
    Returns:
        values as TOML has them, by dotted name; of a setting that is a table itself, such as `loss.terms`, the whole.
    Raises:
        RecipeError: one is not valid, or replaces a table of several chosen settings, or the network.
    """
    content = read_text(recipe_text(START, ""), overrides).model_dump(mode="json")
    known, own = [choice.setting for choice in START], {}
    for override in overrides:
        setting = ".".join(part.strip() for part in override.partition("=")[0].split("."))
        if any(other.startswith(f"{setting}.") for other in known):
            raise RecipeError(
                f"--set {override}: with recipe '{NAME}' the settings of a table are chosen one by one; set them so, "
                "such as training.epochs=5."
            )
        setting = next((other for other in known if setting.startswith(f"{other}.")), setting)
        value: Any = content
        for part in setting.split("."):
            value = value[part]
        own[setting] = value
    if content["model"]["name"] != "unet":
        raise RecipeError(
            f"--set model.name={content['model']['name']}: recipe '{NAME}' chooses the size of a U-net. For another "
            "network train a recipe of it; 'ustoolkit models' lists them."
        )
    return own


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    import tomli_w

    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")
