"""The reference of recipes as a page, which `make reference` writes: every setting, and the shipped recipes.

Everything on it stands in the settings themselves, so that the page cannot say what the code does not do.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from ustoolkit.recipe.base import Settings
from ustoolkit.recipe.classifiers import ClassifierSettings, LesionFeaturesSettings
from ustoolkit.recipe.data_set import DataSetSettings, ExpansionSettings, ShapeSettings
from ustoolkit.recipe.networks import NetworkSettings
from ustoolkit.recipe.settings import Recipe
from ustoolkit.recipe.toml import has_preview, load_recipe, shipped_recipes
from ustoolkit.recipe.value_text import accepted, toml_value

_MARKDOWN = re.compile(r"[*|<>\[\]]|(?<!\w)_|_(?!\w)")
_HEADER = "| setting | values | default | meaning |\n| --- | --- | --- | --- |"
_START = """\
# Recipes: every setting

<!-- Made from the settings in ustoolkit/recipe/ by `make reference`. Change it there. -->

A recipe is a TOML file that says how a network is trained and used. It holds the tables below, and what it leaves out
has its default. `ustoolkit train` takes a file or the name of a [shipped recipe](#shipped-recipes), and `--set` changes
single settings: `--set training.epochs=5`. A run folder keeps the resolved recipe, defaults included. Lists are written
in brackets, as in `image_size = [160, 160]`.
"""
_MODEL = """\
## [model]

Which network is trained, by its `name`, and its size. Each name has settings of its own; [networks](../networks.md)
says what they are for. Without a name it is the U-net. `--set model.name=…` starts the table afresh.
"""
_CLASSIFIERS = "Networks that classify"
_PREVIEW = """\
## [preview]

The same experiment made small, to try a recipe within minutes: `[preview.data]`, `[preview.model]` and so on hold
settings that replace the recipe's own with `--preview`.
"""
_DATA_SET = """\
## Data-set descriptions

A description is a TOML file of its own that says where a data set lies and how to read it; commands take it in place of
the folder. [tfrecords/](../../tfrecords/README.md) holds one for each form of data set.
"""
_EXPANSION = """\
## Expansion

Options of `ustoolkit expand`, such as `--count 2000`. Its copies are changed as the lymph-node paper prints.
"""
_SHIPPED = """\
## Shipped recipes

`ustoolkit train NAME` takes them as they are, and `--preview` those that have one. Below the table stands what each
sets otherwise than the defaults above; to write your own, begin with such a block.

| recipe | network | input, pixels | task | preview |
| --- | --- | --- | --- | --- |"""


def recipe_reference() -> str:
    """The whole page (str), as Markdown."""
    parts = [_START, "## At the top\n", _table(Recipe, without=("model",))]
    for name, field in Recipe.model_fields.items():
        if name == "model":
            parts += [_MODEL, *_networks()]
        elif _is_table(field):
            parts += _tables(name, field.annotation, level=2)
    parts += [_PREVIEW, _DATA_SET, "### At the top\n", _table(DataSetSettings)]
    for name, field in DataSetSettings.model_fields.items():
        if name == "shapes":
            parts += ["### [shapes.NAME]\n", _intro(ShapeSettings), _table(ShapeSettings)]
        elif _is_table(field):
            parts += _tables(name, field.annotation, level=3)
    parts += [_EXPANSION, _table(ExpansionSettings), _SHIPPED]
    parts += [*map(_overview, shipped_recipes()), "", *map(_shipped, shipped_recipes())]
    return "\n".join(parts).rstrip() + "\n"


def all_settings(kind: type[Settings] = Settings) -> Iterator[type[Settings]]:
    """Every table of settings: the classes (type) that are made of `Settings`."""
    for below in kind.__subclasses__():
        yield below
        yield from all_settings(below)


def _tables(name: str, kind: Any, level: int) -> Iterator[str]:
    """A table's section, and below it those of the tables in it."""
    yield f"{'#' * level} [{name}]\n"
    yield _intro(kind)
    yield _table(kind)
    for key, field in kind.model_fields.items():
        if _is_table(field):
            yield from _tables(f"{name}.{key}", field.annotation, min(level + 1, 4))


def _networks() -> Iterator[str]:
    """A section each; what a network shares with one that has a section already is not said again."""
    said = {}
    for kind in get_args(NetworkSettings):
        if issubclass(kind, ClassifierSettings) and ClassifierSettings not in said:
            said[ClassifierSettings] = _CLASSIFIERS
            yield f"### {_CLASSIFIERS}\n\n{_intro(ClassifierSettings)}\n{_table(ClassifierSettings, ('name',))}"
        title = said[kind] = ", ".join(get_args(kind.model_fields["name"].annotation))
        base = kind.__base__ if kind.__base__ in said else Settings
        shared = {name for name, field in base.model_fields.items() if repr(field) == repr(kind.model_fields[name])}
        own = _table(kind, without=("name", *shared))
        yield f"### {title}\n\n{_intro(kind)}"
        if base in said:
            yield f"Has what [{said[base]}](#{_anchor(said[base])}) has{', and:' if own else '.'}\n"
        if own:
            yield own


def _anchor(title: str) -> str:
    """A heading's address within the page, as git hosts make it."""
    return "".join(
        character for character in title.lower().replace(" ", "-") if character.isalnum() or character in "-_"
    )


def _table(kind: type[Settings], without: tuple[str, ...] = ()) -> str:
    rows = [
        _row(name, field) for name, field in kind.model_fields.items() if name not in without and not _is_table(field)
    ]
    return "\n".join([_HEADER, *rows, ""]) if rows else ""


def _row(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    shown = {"name": default.name} if isinstance(default, Settings) and hasattr(default, "name") else default
    values = accepted(field.annotation, field.metadata).replace("|", "\\|")
    return f"| `{name}` | {values} | `{toml_value(shown)}` | {_escaped(field.description or '')} |"


def _is_table(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, Settings)


def _intro(kind: type[Settings]) -> str:
    return f"{_escaped(inspect.cleandoc(kind.__doc__ or ''))}\n"


def _escaped(text: str) -> str:
    """As Markdown that shows it as it is; what stands between backticks does so already."""
    parts = text.split("`")
    return "`".join(part if index % 2 else _MARKDOWN.sub(r"\\\g<0>", part) for index, part in enumerate(parts))


def _overview(name: str) -> str:
    recipe = load_recipe(name)
    measured = isinstance(recipe.model, LesionFeaturesSettings)
    size = "any" if measured else " × ".join(map(str, (*recipe.data.image_size, recipe.data.channels)))
    task, preview = "labels" if recipe.classifies else "masks", "yes" if has_preview(name) else "no"
    return f"| [{name}](#{_anchor(f'Recipe {name}')}) | {recipe.model.name} | {size} | {task} | {preview} |"


def _shipped(name: str) -> str:
    recipe = load_recipe(name)
    text = [f"### Recipe {name}\n", f"{_escaped(recipe.description)}.\n"]
    return "\n".join([*text, "```toml", *_changes(recipe), "```", ""])


def _changes(settings: Settings, table: str = "") -> Iterator[str]:
    """What settings hold otherwise than by default, as TOML; the network's name always."""
    kind = type(settings)
    tables = {name for name, field in kind.model_fields.items() if isinstance(getattr(settings, name), Settings)}
    changed = {
        name: getattr(settings, name)
        for name, field in kind.model_fields.items()
        if name not in {*tables, "description"}
        and (name == "name" or getattr(settings, name) != field.get_default(call_default_factory=True))
    }
    if table and changed:
        yield f"\n[{table}]"
    yield from (f"{name} = {toml_value(changed[name])}" for name in sorted(changed, key=lambda name: name != "name"))
    for name in kind.model_fields:
        if name in tables:
            yield from _changes(getattr(settings, name), f"{table}.{name}" if table else name)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(recipe_reference(), encoding="utf-8")
    else:
        print(recipe_reference(), end="")
