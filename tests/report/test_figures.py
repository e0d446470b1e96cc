import re

import matplotlib
import numpy as np
import pytest

from tests.report.page import Page
from ustoolkit.report import figures

HISTORY = [
    {
        "epoch": epoch,
        "loss": 1 / epoch,
        "validation_loss": 1.2 / epoch,
        "validation_dice": 1 - 1 / epoch,
        "learning_rate": 1e-3 * 0.5**epoch,
    }
    for epoch in range(1, 31)
]


def draw_all():
    random = np.random.default_rng(3)
    dice, groups = random.uniform(0, 1, 60), random.integers(0, 9, 60)
    return [
        figures.dice_histogram(dice, groups),
        figures.dice_by_size(random.lognormal(2, 1, 60), dice, groups, "lesion diameter, mm"),
        figures.loss_curves(HISTORY),
        figures.validation_curve(HISTORY),
        figures.rate_curve(HISTORY, logarithmic=True),
        figures.rate_curve(HISTORY[:1], logarithmic=False),
    ]


def test_figures_stand_inside_a_page():
    for plot in draw_all():
        page = Page(plot)
        assert page.faults == []
        assert page.elements[0][0] == "svg"
        assert page.elements[0][1]["aria-label"]
        assert "style" not in page.tags()
        assert "font-family" not in plot
        assert "http" not in plot


def test_figures_are_drawn_alike_each_time():
    assert draw_all() == draw_all()


def test_global_settings_stay_as_they_were():
    before = dict(matplotlib.rcParams)
    draw_all()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("dice", [[0.0], [1.0], [0.5, 0.5]])
def test_few_images_can_be_drawn(dice):
    groups = [0] * len(dice)
    assert f"median {dice[0]:.2f}" in Page(figures.dice_histogram(dice, groups)).text
    assert figures.dice_by_size([3.0] * len(dice), dice, groups, "area").startswith("<svg")


def test_many_images_do_not_swell_the_page():
    count = 20_000
    plot = figures.dice_by_size(np.linspace(1, 50, count), np.linspace(0, 1, count), np.zeros(count, int), "area")
    assert len(plot) < 400_000


def test_an_undefined_validation_dice_is_left_out():
    history = [{**HISTORY[0], "validation_dice": float("nan")}, *HISTORY[1:]]
    assert "nan" not in figures.validation_curve(history).lower()


def test_size_axis_has_round_numbers():
    plot = figures.dice_by_size([1.3, 4, 30], [0.2, 0.5, 0.8], [0, 0, 1], "area")
    assert re.findall(r">(\d+)</text>", plot) == ["2", "5", "10", "20"]
    plot = figures.rate_curve(HISTORY, logarithmic=True)
    assert "10⁻⁸" in plot or "10⁻⁶" in plot
