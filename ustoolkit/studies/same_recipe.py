"""Recipes as far as they matter to a study, to tell whether a run there is the one that is asked for."""

from pathlib import Path

from ustoolkit.recipe import Recipe
from ustoolkit.recipe.settings import CrfSettings


def comparable(recipe: Recipe, crf_is_tuned: bool) -> Recipe:
    """A recipe as far as it matters to the study; two that are equal then give the same run.

    The run that it starts from is named as within its study, which may have been moved since, and parameters of a CRF
    that is off count only where they are tuned.

    Args:
        recipe: of a run, or asked for.
        crf_is_tuned: whether the study does.
    """
    start = "/".join(Path(recipe.training.initial_weights).parts[-2:])
    changed: dict[str, object] = {"training": recipe.training.model_copy(update={"initial_weights": start})}
    if not crf_is_tuned and not recipe.inference.crf.enabled:
        changed["inference"] = recipe.inference.model_copy(update={"crf": CrfSettings()})
    return recipe.model_copy(update=changed)
