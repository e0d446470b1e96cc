"""The whole experiment as frozen, validated settings: TOML in, TOML out. No TensorFlow."""

from ustoolkit.recipe.data_set import DataSetSettings
from ustoolkit.recipe.settings import Recipe
from ustoolkit.recipe.toml import dump_toml, load_data_set, load_recipe, shipped_recipes, validate

__all__ = [
    "DataSetSettings",
    "Recipe",
    "dump_toml",
    "load_data_set",
    "load_recipe",
    "shipped_recipes",
    "validate",
]
