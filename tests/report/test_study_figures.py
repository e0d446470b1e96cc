import itertools
import math
import re

import numpy as np
import pytest
from PIL import Image

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.report.figure_files import write_figure
from ustoolkit.report.figures import series_colour, to_svg
from ustoolkit.report.study_bars import LadderStep, bar_figure, ladder_figure
from ustoolkit.report.study_curves import StepSeries, curve_figure, step_figure
from ustoolkit.report.study_figures import CostPoint, IntervalRow, cost_figure, interval_figure

NAN = math.nan
LONG = (
    "Lighter U-net with groups of {} channels, two scales of prediction, Dice and cross-entropy weighted, pre-trained"
)
NETWORKS = {"U-net": (31e6, 0.812), "Light U-net": (8.6e6, 0.808), "DeepLab v3+ (ResNet-50)": (26e6, 0.822)}
LIGHTER = {
    f"Lighter U-net @{size}": (3.3e5 * size**0.52, 0.77 + 0.0065 * math.log2(size) - 0.003 * (size > 16))
    for size in (1, 2, 4, 8, 16, 32, 64)
}
DIRECTIONS = {
    "from shallow to deep": StepSeries([0.72, 0.75, 0.8], [0.03, 0.02, 0.01], ["", "contracting part", "all"]),
    "from deep to shallow": StepSeries([0.6, NAN, 0.81], [0.04, 0.02, NAN]),
}
SCORES = {"sensitivity": ([0.9, 0.8], [0.02, 0.03]), "AUC": ([0.95, NAN], [NAN, NAN])}


def cost_points(networks):
    return [CostPoint(name, cost, mean, 0.01) for name, (cost, mean) in networks.items()]


DRAWN = {
    "interval": lambda: interval_figure(
        [IntervalRow("a", 0.1, 0.0, 0.2, "one"), IntervalRow("b", 0, -1, 1, "two")], "Dice", 0
    ),
    "curve": lambda: curve_figure({"Dice": {"a": np.ones((2, 30)), "b": np.zeros((1, 30))}}, "epoch"),
    "step": lambda: step_figure({"ultrasound": DIRECTIONS, "X-ray": DIRECTIONS}, "blocks", "Dice"),
    "cost": lambda: cost_figure(cost_points(NETWORKS | LIGHTER), "weights", "Dice"),
    "ladder": lambda: ladder_figure([LadderStep("a", 0.7, 0.1, True), LadderStep("b", 0.6, 0.1, False)], "Dice"),
    "bar": lambda: bar_figure(
        ["ResNet50", "DenseNet161"], {f"score {n}": ([0.5, 0.6], [0.1, 0.1]) for n in range(7)}, "score"
    ),
}


def texts(figure):
    """Everything that is written in a figure, in its lines as drawn."""
    figure.draw_without_rendering()
    found = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        labels = [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title, *axes.texts]
        found += [text.get_text() for text in (*labels, *axes.get_xticklabels(), *axes.get_yticklabels())]
    return [text for text in found if text.strip()]


def unwrapped(figure):
    return [" ".join(text.split()) for text in texts(figure)]


def dots(axes):
    """The values of all lines of one point, with their height."""
    return [
        (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() not in ("None", "_", "|")
    ]


def bars(axes):
    """Both ends of each upright error bar."""
    segments = [part for bar in axes.containers if hasattr(bar, "has_yerr") for part in bar.lines[2][0].get_segments()]
    return sorted((part[0][0], part[0][1], part[1][1]) for part in segments)


def overlaps(figure, artists, margin=0.0):
    """Pairs of texts that cover each other once the figure is drawn."""
    figure.draw_without_rendering()
    extents = [(artist.get_text(), artist.get_window_extent()) for artist in artists]
    return [
        (one, two)
        for (one, first), (two, second) in itertools.combinations(extents, 2)
        if first.x0 < second.x1 - margin
        and second.x0 < first.x1 - margin
        and first.y0 < second.y1 - margin
        and second.y0 < first.y1 - margin
    ]


def assert_within(figure, artists):
    figure.draw_without_rendering()
    for artist in artists:
        extent = artist.get_window_extent()
        assert extent.x0 >= -1 and extent.y0 >= -1, artist.get_text()
        assert extent.x1 <= figure.bbox.x1 + 1 and extent.y1 <= figure.bbox.y1 + 1, artist.get_text()


@pytest.mark.parametrize("kind", DRAWN)
def test_files_are_written_in_ordinary_colours_and_repeat(kind, tmp_path):
    for number, figure in enumerate((DRAWN[kind](), DRAWN[kind]())):
        for ending in ("png", "svg"):
            write_figure(tmp_path / str(number) / f"one.{ending}", figure)
    for ending in ("png", "svg"):
        assert (tmp_path / "0" / f"one.{ending}").read_bytes() == (tmp_path / "1" / f"one.{ending}").read_bytes()
    text = (tmp_path / "0" / "one.svg").read_text()
    assert "#2f6fb4" in text and "#0101" not in text and "#0102" not in text and "nan" not in text.lower()
    assert 800 <= Image.open(tmp_path / "0" / "one.png").width <= 1440  # so that text is not small at 900 pixels
    # In a page the colours follow its mode, none of Matplotlib's own among them.
    plot = to_svg(figure, kind, "a plot")
    assert not re.search(r"(fill|stroke): #", plot) and "var(--series-1)" in plot


@pytest.mark.parametrize("kind", DRAWN)
def test_legends_cover_no_axes_and_texts_stay_within(kind):
    figure = DRAWN[kind]()
    figure.draw_without_rendering()
    for legend in figure.legends:
        top = legend.get_window_extent().y1
        assert all(axes.get_tightbbox().y0 >= top - 1 for axes in figure.axes)
        assert_within(figure, legend.get_texts())
        assert not overlaps(figure, legend.get_texts(), margin=1)


def test_interval_rows_stand_from_the_top_with_their_values():
    rows = [
        IntervalRow("first", 0.02, -0.01, 0.05, "benign"),
        IntervalRow("first", 0.04, 0.03, 0.06, "malignant"),
        IntervalRow("second", 0.01, NAN, NAN, "benign"),
        IntervalRow("second", NAN, NAN, NAN, "malignant"),
    ]
    figure = interval_figure(rows, "difference of Dice", reference=0)
    axes = figure.axes[0]
    drawn = dots(axes)
    assert [value for value, _ in drawn] == [0.02, 0.04, 0.01]
    heights = [height for _, height in drawn]
    assert heights == sorted(heights) and axes.yaxis_inverted()  # so the first is the uppermost
    assert [line.get_color() for line in axes.lines if line.get_marker() in "o^"] == [
        series_colour(n) for n in (0, 1, 0)
    ]
    intervals = {tuple(line.get_xdata()): line.get_ydata() for line in axes.lines if line.get_marker() == "None"}
    assert intervals[-0.01, 0.05][0] == heights[0] and intervals[0.03, 0.06][0] == heights[1]
    assert [0, 0] in [list(line.get_xdata()) for line in axes.lines]
    assert {"first", "second", "missing", "benign", "malignant", "difference of Dice"} <= set(texts(figure))
    assert len(intervals) == 2 + 2  # the reference, and what stands between the rows


def test_interval_axis_holds_every_end_and_the_reference():
    axes = interval_figure([IntervalRow("a", 0.5, 0.4, 0.7)], "Dice", reference=0.1).axes[0]
    low, high = axes.get_xlim()
    assert low < 0.1 and high > 0.7
    # Equal values and none at all have an axis too.
    low, high = interval_figure([IntervalRow(name, 0.8, NAN, NAN) for name in "ab"], "Dice").axes[0].get_xlim()
    assert 0.7 < low < 0.8 < high < 0.9
    assert "missing" in texts(interval_figure([IntervalRow("a", NAN, NAN, NAN)], "Dice"))


def test_interval_figure_grows_and_long_names_wrap_without_overlap():
    one, many = (interval_figure([IntervalRow(str(n), n, n, n) for n in range(count)], "x") for count in (1, 16))
    assert many.get_size_inches()[1] > one.get_size_inches()[1] + 2
    figure = interval_figure([IntervalRow(LONG.format(n), n, n - 1, n + 1) for n in range(16)], "x")
    labels = figure.axes[0].get_yticklabels()
    assert set(unwrapped(figure)) >= {LONG.format(n) for n in range(16)}
    assert not overlaps(figure, labels)
    assert_within(figure, labels)


def test_curves_are_means_within_the_band_of_all_runs():
    runs = np.array([[0.1, 0.3, 0.5, NAN], [0.3, 0.5, 0.6, 0.8]])
    figure = curve_figure({"validation Dice": {"U-net": runs}, "loss": {"U-net": runs[:1], "FCN": runs}}, "epoch")
    whole, thin = figure.axes[0].lines
    np.testing.assert_allclose(whole.get_ydata(), [0.2, 0.4, 0.55, NAN])
    np.testing.assert_allclose(thin.get_ydata(), [NAN, NAN, 0.55, 0.8])  # where one run is left
    assert thin.get_linewidth() < whole.get_linewidth()
    assert whole.get_xdata().tolist() == [1, 2, 3, 4]
    (band,) = figure.axes[0].collections
    corners = {tuple(np.round(corner, 9)) for corner in band.get_paths()[0].vertices}
    assert corners == {(1, 0.1), (2, 0.3), (3, 0.5), (4, 0.8), (3, 0.6), (2, 0.5), (1, 0.3)}
    assert len(figure.axes[1].collections) == 1  # one run alone has no band
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["U-net", "FCN"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["validation Dice", "loss"]


def test_curves_with_gaps_or_infinite_values_are_drawn():
    figure = curve_figure({"loss": {"a": np.array([[np.inf, 0.5, NAN, 0.4]]), "b": np.full((2, 4), NAN)}}, "epoch")
    values = [line.get_ydata() for line in figure.axes[0].lines]
    drawn = np.concatenate(values)
    assert set(drawn[np.isfinite(drawn)]) == {0.5, 0.4}
    assert {"a", "b"} <= set(texts(figure))


def looks(labels, styles=None):
    figure = curve_figure({"Dice": {label: np.ones((1, 20)) for label in labels}}, "epoch", styles)
    handles = figure.legends[0].get_lines()
    return [(line.get_color(), line.get_linestyle(), line._unscaled_dash_pattern[1]) for line in handles]


def test_sixteen_curves_differ():
    plain = looks([f"arm {n}" for n in range(16)])
    assert len({str(look) for look in plain}) == 16
    assert [look[0] for look in plain[:6]] == [series_colour(n) for n in range(6)]
    pairs = list(
        itertools.product(("ReLU", "SELU", "NHReLU", "NHSeLU"), ("one", "two", "one, weighted", "two, weighted"))
    )
    factors = looks([f"{first}, {second}" for first, second in pairs])
    assert len({str(look) for look in factors}) == 16
    for (first, second), look in zip(pairs, factors, strict=True):
        for (other_first, other_second), other in zip(pairs, factors, strict=True):
            assert (first == other_first) == (look[0] == other[0])
            assert (second == other_second) == (look[2] == other[2])


def test_given_styles_are_taken():
    assert [look[0] for look in looks(["a", "b"], {"a": (3, 0), "b": (1, 2)})] == [series_colour(3), series_colour(1)]
    with pytest.raises(DataError, match="no style for 'b'"):
        looks(["a", "b"], {"a": (0, 0)})


def test_steps_have_their_scores_bars_and_marks():
    figure = step_figure(
        {"ultrasound": DIRECTIONS, "X-ray": {"from shallow to deep": DIRECTIONS["from shallow to deep"]}},
        "blocks",
        "Dice",
    )
    first, second = figure.axes
    lines = [line for line in first.lines if line.get_marker() in ("o", "v")]
    for line, series in zip(lines, DIRECTIONS.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), series.mean)
        np.testing.assert_allclose(line.get_xdata(), [1, 2, 3], atol=0.1)
    assert [line.get_color() for line in lines] == [series_colour(0), series_colour(4)]
    ends = [end for bar in bars(first) for end in bar[1:]]
    np.testing.assert_allclose(sorted(ends), sorted([0.69, 0.75, 0.73, 0.77, 0.79, 0.81, 0.56, 0.64]))
    assert {text.get_text() for text in first.texts} == {"contracting part", "all"}
    assert not overlaps(figure, first.texts)
    assert first.get_ylim() == second.get_ylim() and first.get_xlim() == second.get_xlim()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(DIRECTIONS)


def test_costs_have_their_points_and_bars():
    points = [
        CostPoint("small", 4e5, 0.78, 0.02, "light"),
        CostPoint("large", 3e7, 0.82, NAN, "plain"),
        CostPoint("middle", 2e6, 0.8, 0.01, "light"),
        CostPoint("failed", 1e6, NAN, NAN, "plain"),
        CostPoint("free", 0, 0.5, 0.1, "plain"),
    ]
    figure = cost_figure(points, "trainable weights", "Dice")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    drawn = {tuple(line.get_xdata()): tuple(line.get_ydata()) for line in axes.lines if line.get_marker() in ("o", "^")}
    assert drawn == {(4e5, 2e6): (0.78, 0.8), (3e7,): (0.82,)}
    np.testing.assert_allclose(bars(axes), [(4e5, 0.76, 0.8), (2e6, 0.79, 0.81)])
    assert [text.get_text() for text in axes.texts] == ["small", "large", "middle"]
    assert "trainable weights without a value: failed, free" in unwrapped(figure)
    assert {"light", "plain", "1 M", "10 M"} <= set(texts(figure))


@pytest.mark.parametrize(
    "networks",
    [
        NETWORKS | LIGHTER,
        {f"network number {n}": (1e6, 0.8) for n in range(10)},
        {LONG[:50].format(2**n): (3e7 / 2**n, 0.8 - 0.004 * n) for n in range(8)},
        {"U-net": (31e6, 0.8)},
    ],
)
def test_names_beside_points_do_not_overlap(networks):
    figure = cost_figure(cost_points(networks), "weights", "Dice")
    names = figure.axes[0].texts
    assert [text.get_text() for text in names] == list(networks)
    for dpi in (100, 200):
        figure.set_dpi(dpi)
        assert not overlaps(figure, names)
        assert_within(figure, names)
        # Nor does a name cover a point, and each is nearer to its own point than the width of the plot.
        places = figure.axes[0].transData.transform(list(networks.values()))
        for text, own in zip(names, places, strict=True):
            extent = text.get_window_extent()
            assert not any(extent.contains(*place) for place in places), text.get_text()
            nearest = np.clip(own, [extent.x0, extent.y0], [extent.x1, extent.y1])
            assert np.linalg.norm(nearest - own) < 1.5 * dpi


def test_ladder_goes_on_from_the_last_step_that_was_kept():
    steps = [
        LadderStep("baseline", 0.7, 0.02, True),
        LadderStep("two scales", 0.65, 0.01, False, 0.6, 0.72),
        LadderStep("failed", NAN, NAN, True),
        LadderStep("weighted", 0.8, NAN, True),
    ]
    figure = ladder_figure(steps, "Dice")
    axes = figure.axes[0]
    (stair,) = [patch for patch in axes.patches if hasattr(patch, "get_data")]
    assert stair.get_data().values.tolist() == [0.7, 0.7, 0.7, 0.8]
    filled, hollow = [line for line in axes.lines if line.get_marker() == "o"]
    assert (filled.get_xdata().tolist(), filled.get_ydata().tolist()) == ([0, 3], [0.7, 0.8])
    assert (hollow.get_xdata().tolist(), hollow.get_ydata().tolist()) == ([1], [0.65])
    assert hollow.get_markerfacecolor() == "none" != filled.get_markerfacecolor()
    np.testing.assert_allclose(bars(axes), [(0, 0.68, 0.72), (1, 0.6, 0.72)])
    assert {"baseline", "two scales", "weighted", "missing", "kept", "not kept"} <= set(unwrapped(figure))


@pytest.mark.parametrize("count", [1, 4, 16])
def test_ladder_begins_anywhere_and_names_any_number_of_steps(count):
    names = [
        f"{n} {LONG.format(n)}" if count < 16 else f"step {n}: a longer name of what changed" for n in range(count)
    ]
    figure = ladder_figure([LadderStep(name, 0.8, 0.0, n > 0) for n, name in enumerate(names)], "Dice")
    labels = figure.axes[0].get_xticklabels()
    assert [" ".join(label.get_text().split()) for label in labels] == names
    assert_within(figure, labels)
    if not labels[0].get_rotation():
        assert not overlaps(figure, labels)


def test_upright_bars_have_their_heights_and_lines():
    figure = bar_figure(["ResNet50", "DenseNet161"], SCORES, "score")
    axes = figure.axes[0]
    assert [[patch.get_height() for patch in group] for group in axes.containers if hasattr(group, "patches")] == [
        [0.9, 0.8],
        [0.95],
    ]
    np.testing.assert_allclose([bar[1:] for bar in bars(axes)], [(0.88, 0.92), (0.77, 0.83)])
    assert axes.get_ylim() == (0, 1)
    assert texts(figure).count("missing") == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(SCORES)
    assert bar_figure(["a"], {"": ([0.5], [0.1])}, "score").legends == []


def test_limits_hold_what_is_drawn():
    assert bar_figure(["a"], {"x": ([0.99], [0.03])}, "score").axes[0].get_ylim()[1] > 1.02
    low, high = bar_figure(["a"], {"x": ([-3.0], [1.0])}, "difference", None).axes[0].get_ylim()
    assert low < -4 and high >= 0
    assert bar_figure(["a"], {"x": ([NAN], [NAN])}, "score", None).axes[0].get_ylim()[1] > 0


@pytest.mark.parametrize("names", [[f"classifier {n}" for n in range(16)], ["a", "x" * 60, "b", "c", "d"]])
def test_many_bars_and_long_names_lie(names):
    series = {name: (np.linspace(0.5, 0.9, len(names)), np.full(len(names), 0.02)) for name in ("one", "two")}
    figure = bar_figure(names, series, "score")
    axes = figure.axes[0]
    lengths = [patch.get_width() for patch in axes.patches if hasattr(patch, "get_width")]
    np.testing.assert_allclose(lengths, [*np.linspace(0.5, 0.9, len(names))] * 2)
    assert axes.get_xlim() == (0, 1) and axes.yaxis_inverted()
    assert not overlaps(figure, axes.get_yticklabels())


def test_any_name_can_be_drawn():
    names = ["_hidden", "$a_b$ & <c>", "100 % µ é"]
    for figure in (
        interval_figure([IntervalRow(name, 0.1, 0, 1, name) for name in names], names[1]),
        curve_figure({names[1]: {name: np.ones((1, 3)) for name in names}}, names[1]),
        step_figure({names[1]: {name: StepSeries([1], [0], [name]) for name in names}}, names[1], names[1]),
        cost_figure([CostPoint(name, 1, 1, 1, name) for name in names], names[1], names[1]),
        ladder_figure([LadderStep(name, 1, 1, True) for name in names], names[1]),
        bar_figure(names, {name: ([1] * 3, [0] * 3) for name in names}, names[1]),
    ):
        found = texts(figure)
        assert set(names) <= set(found)


def test_long_names_of_axes_stay_within():
    name = "Dice, mean ± standard deviation over the runs of each network"
    for figure in (
        interval_figure([IntervalRow("a", 0.1, 0, 1)], f"{name}, less those of the U-net with noisy activations"),
        step_figure({"X-ray": DIRECTIONS, "ultrasound": DIRECTIONS}, name, name),
        cost_figure(cost_points(NETWORKS), name, name),
        ladder_figure([LadderStep("a", 1, 1, True)], name),
        bar_figure(["a"], {"b": ([0.5], [0.1])}, name),
    ):
        for axes in figure.axes:
            assert_within(figure, [axes.xaxis.label, axes.yaxis.label])


def test_messages_name_what_is_wrong():
    for draw in (interval_figure, cost_figure):
        with pytest.raises(DataError, match="there is no"):
            draw([], *(["x"] if draw is interval_figure else ["x", "y"]))
    with pytest.raises(DataError, match="no step"):
        ladder_figure([], "y")
    with pytest.raises(DataError, match="no panel"):
        curve_figure({}, "epoch")
    with pytest.raises(DataError, match="no curve of 'Dice'"):
        curve_figure({"Dice": {}}, "epoch")
    with pytest.raises(DataError, match="no category"):
        bar_figure([], SCORES, "y")
    with pytest.raises(DataError, match="no series"):
        bar_figure(["a"], {}, "y")
    with pytest.raises(DataError, match="two rows have the same"):
        interval_figure([IntervalRow("a", 0, 0, 0)] * 2, "x")
    with pytest.raises(ShapeError, match=r"'U-net' of 'Dice': expected an array \(runs, epochs\)"):
        curve_figure({"Dice": {"U-net": np.ones(4)}}, "epoch")
    with pytest.raises(ShapeError, match="expected 2 of 'deviation', found 1"):
        step_figure({"X-ray": {"a": StepSeries([1, 2], [1])}}, "x", "y")
    with pytest.raises(ShapeError, match="'AUC': expected 1 of 'mean', found 2"):
        bar_figure(["a"], {"AUC": ([1, 2], [1])}, "y")
