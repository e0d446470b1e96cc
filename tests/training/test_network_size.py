"""What a network costs, told by its settings alone, is what is counted in the network itself."""

import pytest

from ustoolkit.models import build_model
from ustoolkit.models.cost import multiply_adds
from ustoolkit.recipe import Recipe
from ustoolkit.training.network_size import NetworkSize


@pytest.mark.parametrize("image_size", [(192, 192), (96, 160)])
@pytest.mark.parametrize(("widths", "stem"), [((4, 8), 1), ((4, 8, 16), 2), ((6, 12, 24, 24), 4)])
def test_multiply_adds_by_settings_are_those_of_the_network(image_size, widths, stem):
    network = NetworkSize(image_size, widths, stem)
    recipe = Recipe(data={"image_size": image_size, "channels": 1}, model={"widths": widths, "stem": stem})
    assert network.multiply_adds == multiply_adds(build_model(recipe, 2))
