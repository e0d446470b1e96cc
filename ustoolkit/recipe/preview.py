"""A recipe's `[preview]` table: the same experiment made small, to try it within minutes on a CPU."""

from typing import Any, get_args

from ustoolkit.errors import RecipeError
from ustoolkit.recipe.networks import LighterUnetSettings, NetworkSettings, UnetSettings
from ustoolkit.recipe.settings import Recipe
from ustoolkit.recipe.validation import problems, refusal, validate

Table = dict[str, Any]


def take_preview(content: Table, place: str) -> Table | None:
    """Takes the table `[preview]` out of a recipe and checks it, whether it is used or not.

    Args:
        content: the recipe as read; the table is removed from it.
        place: where it was read from, for messages.
    Returns:
        the table; None where there is none.
    Raises:
        RecipeError: the table holds what would not be valid in the recipe.
    """
    if "preview" not in content:
        return None
    preview = content.pop("preview")
    if not isinstance(preview, dict):
        raise refusal([f"preview: input should be a table of settings, found {preview!r}"], place)
    if "name" in preview:
        raise refusal(["name: a preview is named after its recipe; leave it out"], place, "preview")
    own = problems(Recipe, content)
    new = [line for line in problems(Recipe, with_preview(content, preview)) if line not in own]
    if new:
        raise refusal(new, place, "preview")
    return preview


def with_preview(content: Table, preview: Table) -> Table:
    """A recipe with the settings of its preview in place of its own, and named '<name>-preview'.

    Args:
        content: the recipe as read, without `[preview]`; it is not changed.
        preview: what `take_preview` returned.
    Returns:
        a new table. A setting of the preview replaces the recipe's whole value; a network of another name replaces the
        table `[model]`.
    """
    result = dict(content)
    for key, value in preview.items():
        old = content.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            another = key == "model" and value.get("name", _network(old)) != _network(old)
            value = value if another else {**old, **value}
        result[key] = value
    name = content.get("name", Recipe.model_fields["name"].default)
    return {**result, "name": f"{name}-preview"} if isinstance(name, str) else result


def fitting(preview: Table, model: Any) -> Table:
    """The preview's settings of the network, as far as another network has them.

    Args:
        preview: what `take_preview` returned.
        model: name of the other network.
    Returns:
        settings for `[model]`, its name left out; none where no network has that name.
    """
    by_name = {
        name: network
        for network in get_args(NetworkSettings)
        for name in get_args(network.model_fields["name"].annotation)
    }
    known = by_name[model].model_fields if isinstance(model, str) and model in by_name else {}
    return {key: value for key, value in preview.get("model", {}).items() if key != "name" and key in known}


def scale_group_size(narrow: Recipe, published: Any, preview: Table, place: str) -> Recipe:
    """Makes groups of channels narrower by as much as the preview makes the network's first level.

    Args:
        narrow: the recipe with its preview and overrides.
        published: `[model]` with the same overrides, and without the preview.
        preview: what `take_preview` returned.
        place: where the recipe was read from, for messages.
    Returns:
        the recipe with the scaled group size, at least 1 channel; as it is where the network has no group size, the
        preview sets one itself, or names another network.
    Raises:
        RecipeError: `published` is not valid.
    """
    model = narrow.model
    if not isinstance(model, LighterUnetSettings) or "group_size" in preview.get("model", {}):
        return narrow
    if not isinstance(published, dict) or _network(published) != model.name:
        return narrow
    full = validate(type(model), published, place, "model")
    size = max(1, model.group_size * model.widths[0] // full.widths[0])
    return narrow.model_copy(update={"model": model.model_copy(update={"group_size": size})})


def _network(table: Table) -> Any:
    return table.get("name", UnetSettings.model_fields["name"].default)


def no_preview(place: str, shipped: list[str]) -> RecipeError:
    """The error to raise where a recipe has no preview; `shipped` are the recipes that come with one."""
    listed = ", ".join(shipped)
    return RecipeError(
        f"{place}: expected a table [preview], found none. Recipes with a preview: {listed}. Or write one, such as "
        "[preview.data] with image_size = [96, 96]."
    )
