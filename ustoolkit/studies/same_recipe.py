"""Recipes as far as they matter to a study, to tell whether a run there is the one that is asked for."""

from pathlib import Path

from ustoolkit.recipe import Recipe
from ustoolkit.recipe.settings import CrfSettings
from ustoolkit.studies.asked import PRETRAINING


def comparable(recipe: Recipe, crf_is_tuned: bool) -> Recipe:
    """A recipe as far as it matters to the study; two that are equal then give the same run.

    A pre-training that it starts from is named as within its study, which may have been moved since, and parameters of
    a CRF that is off count only where they are tuned.

    Args:
        recipe: of a run, or asked for.
        crf_is_tuned: whether the study does.
    """
    start = recipe.training.initial_weights
    of_study = Path(start).parts[-2:]
    start = "/".join(of_study) if of_study[0] == PRETRAINING else start
    changed: dict[str, object] = {"training": recipe.training.model_copy(update={"initial_weights": start})}
    if not crf_is_tuned and not recipe.inference.crf.enabled:
        changed["inference"] = recipe.inference.model_copy(update={"crf": CrfSettings()})
    return recipe.model_copy(update=changed)
