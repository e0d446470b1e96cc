"""The whole experiment as frozen, validated settings: TOML in, TOML out. No TensorFlow."""

from ustoolkit.recipe.augmentation import AugmentationSettings
from ustoolkit.recipe.classification import ClassificationSettings
from ustoolkit.recipe.data_set import CleanSettings, DataSetSettings, ExpansionSettings, SplitSettings
from ustoolkit.recipe.networks import NetworkSettings
from ustoolkit.recipe.settings import CrfSettings, DataSettings, InferenceSettings, Recipe
from ustoolkit.recipe.toml import dump_toml, has_preview, load_data_set, load_recipe, shipped_recipes
from ustoolkit.recipe.training import LossSettings, TrainingSettings
from ustoolkit.recipe.validation import validate

__all__ = [
    "AugmentationSettings",
    "ClassificationSettings",
    "CleanSettings",
    "CrfSettings",
    "DataSetSettings",
    "DataSettings",
    "ExpansionSettings",
    "InferenceSettings",
    "LossSettings",
    "NetworkSettings",
    "Recipe",
    "SplitSettings",
    "TrainingSettings",
    "dump_toml",
    "has_preview",
    "load_data_set",
    "load_recipe",
    "shipped_recipes",
    "validate",
]
