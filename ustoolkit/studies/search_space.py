"""What a search of hyper-parameters may change: ranges and choices, written 'key=low..high' and 'key=this|that'."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ustoolkit.errors import RecipeError
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.classifiers import LesionFeaturesSettings

Distribution = CategoricalDistribution | IntDistribution | FloatDistribution
SearchSpace = dict[str, Distribution]  # by setting; choices are TOML text as after `--set`
Values = Mapping[str, Any]  # of one trial, by setting
Loader = Callable[[Sequence[str]], Recipe]  # the recipe with changes 'table.key=value'

LARGEST_GRID = 10_000  # combinations; of more than that it matters little that one might come twice
_LOGARITHMIC_FROM = 10  # times the lower end
_NOT_SEARCHED = {
    "name": "it changes no training",
    "description": "it changes no training",
    "inference": "training does not depend on it; tune a trained run with tune-threshold and tune-crf",
}
_WEIGHT_DECAYS = ("1e-2", "1e-3", "1e-4", "1e-5", "0")  # those of the lightweight paper
_LOSS_TERMS = ("{dice = 1.0}", "{dice = 1.0, cross_entropy = 1.0}", "{dice = 1.0, focal = 1.0}")
_DROPOUT, _ROTATION_DEGREES, _ZOOM = (0.0, 0.6), (0.0, 30.0), (0.0, 0.4)


def read_space(specs: Sequence[str], changes: Sequence[str], load: Loader) -> SearchSpace:
    """Reads what is to be searched, and tries each end and each choice in the recipe before anything trains.

    A range is logarithmic where it begins above 0 and ends at ten times that or more, and of whole numbers where both
    ends are. A choice is a TOML value, else a string.

    Args:
        specs: 'table.key=low..high' or 'table.key=this|that|…'.
        changes: 'table.key=value' that hold for every trial; none of them may be searched too.
        load: resolves the recipe.
    Returns:
        the space, in the order of the specs.
    Raises:
        RecipeError: a spec is neither, a range is none, a setting is not valid, is set or searched twice, or two
            choices mean the same.
    """
    space: SearchSpace = {}
    for spec in specs:
        key, equals, text = (part.strip() for part in spec.partition("="))
        if not equals or not key or not text:
            raise _refusal(spec, "expected table.key=low..high or table.key=this|that")
        _check_key(spec, key, [change.partition("=")[0].strip() for change in changes], list(space))
        space[key] = _range(spec, text) if ".." in text and "|" not in text else _choices(spec, text)
    for key, distribution in space.items():
        _check_values(key, distribution, load)
    return space


def default_space(recipe: Recipe, changes: Sequence[str], load: Loader) -> SearchSpace:
    """What is searched where nobody says what: optimiser, dropout, loss and augmentation, around the recipe.

    Args:
        recipe: resolved.
        changes: 'table.key=value'; what they set is not searched.
        load: resolves the recipe.
    Returns:
        the space; it holds the recipe's own values.
    Raises:
        RecipeError: nothing of the recipe is trained by gradients, or the changes leave nothing to search.
    """
    classical = recipe.classifies and recipe.classification.transfer.form == "bottleneck"
    if classical or isinstance(recipe.model, LesionFeaturesSettings):
        raise RecipeError(
            f"recipe '{recipe.name}': nothing is searched by default where no network is trained. Say what to search, "
            "such as --search 'classification.region.margin=0.1..0.5'."
        )
    training, batch = recipe.training, recipe.training.batch_size
    rate, decays = training.learning_rate, (repr(training.weight_decay), *_WEIGHT_DECAYS)
    space: SearchSpace = {
        "training.learning_rate": FloatDistribution(float(f"{rate / 10:g}"), float(f"{rate * 10:g}"), log=True),
        "training.weight_decay": _with_own(decays, "training.weight_decay", load),
        "training.batch_size": CategoricalDistribution(
            [str(size) for size in sorted({max(1, batch // 2), batch, batch * 2})]
        ),
    }
    if hasattr(recipe.model, "dropout"):
        space["model.dropout"] = _around(recipe.model.dropout, _DROPOUT)
    if not recipe.classifies:
        own = ", ".join(f"{name} = {weight!r}" for name, weight in recipe.loss.terms.items())
        space["loss.terms"] = _with_own((f"{{{own}}}", *_LOSS_TERMS), "loss.terms", load)
    if recipe.augmentation.enabled:
        space["augmentation.rotation_degrees"] = _around(recipe.augmentation.rotation_degrees, _ROTATION_DEGREES)
        space["augmentation.zoom"] = _around(recipe.augmentation.zoom, _ZOOM)
    taken = [change.partition("=")[0].strip() for change in changes]
    space = {key: found for key, found in space.items() if not any(_clash(key, other) for other in taken)}
    if not space:
        raise RecipeError("--set fixes all that is searched by default. Say what to search by --search.")
    return space


def describe_space(space: SearchSpace) -> dict[str, str]:
    """The space as it could be typed: the specs without their keys, by key."""
    return {key: _describe(distribution) for key, distribution in space.items()}


def combinations(space: SearchSpace) -> list[dict[str, Any]]:
    """All combinations of a space that has choices only, the last setting changing fastest.

    Returns:
        one dict a combination; none where the space has a range, or more than `LARGEST_GRID` combinations.
    """
    choices = [found.choices if isinstance(found, CategoricalDistribution) else () for found in space.values()]
    if not 0 < math.prod(map(len, choices)) <= LARGEST_GRID:
        return []
    return [dict(zip(space, values, strict=True)) for values in product(*choices)]


def own_values(space: SearchSpace, recipe: Recipe, load: Loader) -> dict[str, Any]:
    """The recipe's own values, to try first; none where one of them lies outside the space.

    Args:
        space: what is searched.
        recipe: resolved.
        load: resolves it with changes.
    """
    found = {}
    for key, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            own: list[Any] = [choice for choice in distribution.choices if load([f"{key}={choice}"]) == recipe]
        else:
            own = _in_range(distribution, _setting(recipe, key))
        if not own:
            return {}
        found[key] = own[0]
    return found


def _setting(recipe: Recipe, key: str) -> Any:
    """A setting by its dotted name; None where there is none."""
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name, None)
    return value


def _in_range(distribution: IntDistribution | FloatDistribution, value: object) -> list[int | float]:
    """The recipe's own value as the range would give it; none where it could not."""
    if not isinstance(value, int | float) or not distribution.low <= value <= distribution.high:
        return []
    if isinstance(distribution, FloatDistribution):
        return [float(value)]
    return [int(value)] if float(value).is_integer() else []


def overrides_of(values: Values) -> list[str]:
    """The values of a trial as 'table.key=value'; `model.name` is first, since it starts `[model]` afresh."""
    return [f"{key}={values[key]}" for key in sorted(values, key=lambda key: key != "model.name")]


def _check_key(spec: str, key: str, changes: Sequence[str], searched: Sequence[str]) -> None:
    why = next((why for name, why in _NOT_SEARCHED.items() if _clash(key, name)), "")
    if why:
        raise _refusal(spec, f"{key} is not searched, since {why}")
    for others, what in ((changes, "set by --set"), (searched, "searched")):
        clash = next((other for other in others if _clash(key, other)), "")
        if clash:
            raise RecipeError(f"--search {spec}: {clash} is {what} already. Leave one of them out.")


def _range(spec: str, text: str) -> Distribution:
    ends = [_number(spec, end.strip()) for end in text.split("..", 1)]
    low, high = ends
    if not low < high:
        raise _refusal(spec, f"expected a range that ends above its beginning, found {low} and {high}")
    logarithmic = low > 0 and high / low >= _LOGARITHMIC_FROM
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=logarithmic)
    return FloatDistribution(float(low), float(high), log=logarithmic)


def _number(spec: str, text: str) -> int | float:
    for kind in (int, float):
        try:
            value = kind(text)
            if math.isfinite(value):
                return value
        except (ValueError, OverflowError):
            continue
    raise _refusal(spec, f"expected numbers at both ends of the range, found '{text}'")


def _choices(spec: str, text: str) -> CategoricalDistribution:
    choices = [choice.strip() for choice in text.split("|")]
    if len(choices) < 2 or not all(choices):
        raise _refusal(spec, f"expected a range low..high, or two or more choices this|that, found '{text}'")
    return CategoricalDistribution(choices)


def _check_values(key: str, distribution: Distribution, load: Loader) -> None:
    if not isinstance(distribution, CategoricalDistribution):
        for value in (distribution.low, distribution.high):
            _load(key, value, load)
        return
    seen: list[tuple[Any, Recipe]] = []
    for choice in distribution.choices:
        recipe = _load(key, choice, load)
        same = next((other for other, earlier in seen if earlier == recipe), "")
        if same:
            raise _refusal(f"{key}={_describe(distribution)}", f"'{same}' and '{choice}' mean the same")
        seen.append((choice, recipe))


def _load(key: str, value: Any, load: Loader) -> Recipe:
    try:
        return load([f"{key}={value}"])
    except RecipeError as problem:
        raise RecipeError(f"--search {key}, with {value}: {problem}") from None


def _with_own(choices: Sequence[str], key: str, load: Loader) -> CategoricalDistribution:
    """Choices of which the first is the recipe's own; those that mean the same as one before are left out."""
    kept: list[tuple[str, Recipe]] = []
    for choice in choices:
        recipe = load([f"{key}={choice}"])
        if all(recipe != other for _, other in kept):
            kept.append((choice, recipe))
    return CategoricalDistribution([choice for choice, _ in kept])


def _around(own: float, usual: tuple[float, float]) -> FloatDistribution:
    """A usual range, made wide enough for the recipe's own value."""
    return FloatDistribution(min(own, usual[0]), max(own, usual[1]))


def _describe(distribution: Distribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return "|".join(map(str, distribution.choices))
    return f"{distribution.low!r}..{distribution.high!r}"


def _clash(one: str, other: str) -> bool:
    """Whether one setting is the other, or within it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _refusal(spec: str, what: str) -> RecipeError:
    return RecipeError(
        f"--search {spec}: {what}. Write a range, such as 'training.learning_rate=1e-4..1e-2', or choices, such as "
        "'training.weight_decay=1e-2|1e-3|0'."
    )
