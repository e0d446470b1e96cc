"""The reference of recipes: up to date, whole, and true of what the settings take."""

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from ustoolkit.recipe import load_recipe, shipped_recipes
from ustoolkit.recipe.base import Count, Fraction, NotNegative, Positive
from ustoolkit.recipe.reference import all_settings, recipe_reference
from ustoolkit.recipe.value_text import accepted, toml_value

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "recipes.md"
KINDS = list(dict.fromkeys(all_settings()))
BOUNDS = (
    r"(?P<noun>(whole )?number)(?:,? (?P<low>from|above) (?P<least>[\d,.]+))?"
    r"(?:(?: to|, (?P<high>at most|below)) (?P<most>[\d,.]+))?(?:, (?P<more>[\d,.]+) or more)?"
)


def settings():
    """Each setting once, with the table that it is in, the names of networks apart."""
    return [(kind, name, field) for kind in KINDS for name, field in kind.model_fields.items()]


def takes(field, value):
    """Whether a setting takes a value."""
    try:
        TypeAdapter(Annotated[field.annotation, field]).validate_python(value)
    except ValidationError:
        return False
    return True


def number(text):
    return float(text.replace(",", ""))


def test_the_page_is_up_to_date():
    written = PAGE.read_text(encoding="utf-8")
    assert written == recipe_reference(), f"{PAGE}: other than the settings of now. Run `make reference`."


def test_every_setting_says_what_it_means():
    silent = [
        f"{kind.__name__}.{name}"
        for kind, name, field in settings()
        if not field.description and name != "name" and not isinstance(field.annotation, type(KINDS[0]))
    ]
    assert not silent, f"settings without a description: {', '.join(silent)}. Add Field(description=…)."


def test_every_setting_and_network_stands_on_the_page():
    page = recipe_reference()
    assert not [
        name
        for _, name, _ in settings()
        if f"`{name}`" not in page and f".{name}]" not in page and f"[{name}]" not in page
    ]
    assert all(f"### Recipe {name}\n" in page for name in shipped_recipes())
    # Every cell of every table is filled.
    assert not re.search(r"\| *\|", page)


def test_limits_are_those_that_hold():
    checked = 0
    for kind, name, field in settings():
        found = re.fullmatch(BOUNDS, accepted(field.annotation, field.metadata))
        if not found:
            continue
        checked += 1
        step = 1 if found["noun"] == "whole number" else 1e-6
        if found["more"]:
            least = number(found["more"])
            assert takes(field, least) and not takes(field, least - step), (kind, name)
        if found["least"]:
            least, open_end = number(found["least"]), found["low"] == "above"
            assert takes(field, least) != open_end and takes(field, least + step), (kind, name)
            assert not takes(field, least - step), (kind, name)
        if found["most"]:
            most, open_end = number(found["most"]), found["high"] == "below"
            assert takes(field, most) != open_end and not takes(field, most + step), (kind, name)
    assert checked > 60


def test_defaults_are_among_the_values():
    for kind, name, field in settings():
        default = field.get_default(call_default_factory=True)
        if not field.is_required() and name != "model":
            assert takes(field, default), (kind, name)


@pytest.mark.parametrize("name", shipped_recipes())
def test_what_a_shipped_recipe_changes_makes_it_again(name, tmp_path):
    block = re.search(rf"### Recipe {name}\n.*?```toml\n(.*?)```", recipe_reference(), re.DOTALL)[1]
    file = tmp_path / f"{name}.toml"
    file.write_text(block, encoding="utf-8")
    recipe = load_recipe(name)
    assert load_recipe(file).model_copy(update={"description": recipe.description}) == recipe


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Fraction, "number from 0 to 1"),
        (Positive, "number above 0"),
        (NotNegative, "number, 0 or more"),
        (Annotated[Fraction, Field(gt=0)], "number above 0, at most 1"),
        (Annotated[NotNegative, Field(lt=1)], "number from 0, below 1"),
        (Annotated[Count, Field(le=2000)], "whole number from 1 to 2,000"),
        (int, "whole number"),
        (bool, "`true`, `false`"),
        (Literal["a", 2], '`"a"`, `2`'),
        (Literal["all"] | Count, '`"all"`, or whole number, 1 or more'),
        (tuple[Count, Count], "list of 2: whole number, 1 or more"),
        (tuple[Positive, NotNegative], "list: number above 0; number, 0 or more"),
        (tuple[()] | tuple[str, ...], "`[]`, or list: text"),
        (Annotated[tuple[Count, ...], Field(min_length=2, max_length=8)], "list of 2 to 8: whole number, 1 or more"),
        (Annotated[tuple[str, ...], Field(min_length=1)], "list of 1 or more: text"),
        (dict[str, Positive], "table; keys: text; values: number above 0"),
        (Annotated[str, Field(pattern="^a$")], "text that fits `^a$`"),
    ],
)
def test_what_a_setting_takes_in_words(kind, words):
    assert accepted(kind) == words


def test_values_are_toml():
    import tomllib

    for value in (True, 0.5, 1e-7, 3, 'a "quoted" word', [1, [2, 3]], {"a": 1.5}, {}, []):
        assert tomllib.loads(f"value = {toml_value(value)}")["value"] == value
