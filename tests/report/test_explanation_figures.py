"""Pictures of what layers have learned and why a decision was made."""

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import find_objects

from ustoolkit.errors import DataError, OutputError, ShapeError
from ustoolkit.explain.maximization import Maximization
from ustoolkit.explain.receptive_field import ReceptiveField
from ustoolkit.explain.sanity import SanityRow
from ustoolkit.explain.similarity import LayerChange
from ustoolkit.explain.statistics import LayerStatistics
from ustoolkit.report import explanation_figures, layer_panels, picture_sheet
from ustoolkit.report.attribution_figures import attribution_panel, sanity_figure
from ustoolkit.report.explanation_figures import change_figure, filter_grid, pair_figure, poster, statistics_figure

DEAD = (213, 94, 0)
GREEN = (64, 255, 96)


class Shown(Maximization):
    """A maximization whose pictures are its images, so that each filter has a colour that nothing else has."""

    def pictures(self):
        return self.images.astype(np.uint8)


def colour(number):
    return (200, 16 + number % 200, 250 - number // 200)


def shown(filters, size=(48, 48), layer="encoder1_conv1", channels=3, activations=None, colours=colour):
    filters = np.array(filters, np.int64)
    images = np.zeros((len(filters), *size, channels), np.float32)
    for image, number in zip(images, filters, strict=True):
        image[:] = colours(int(number))[:channels]
    activations = np.arange(len(filters)) if activations is None else activations
    return Shown(layer, filters, images, np.array(activations, np.float32), np.zeros(len(filters), np.float32))


def statistics(layer="encoder1_conv1", filters=4, dead=(), field=(7.0, 7.0), stride=1, effective=3.5, sparsity=0.5):
    seen = ReceptiveField(*field, Fraction(stride), Fraction(stride))
    return LayerStatistics(layer, filters, 9 * filters, seen, effective, tuple(dead), sparsity, 0.0, 1.0)


def pixels_of(path):
    return np.asarray(Image.open(path).convert("RGB"))


def boxes_of(pixels, colours):
    """Top, left, height, width of what has each colour, which has to fill that box; None where nothing has it."""
    codes, wanted = (np.asarray(values, np.int64) @ (65536, 256, 1) for values in (pixels, colours))
    order = np.argsort(wanted)
    found = np.minimum(np.searchsorted(wanted, codes, sorter=order), len(wanted) - 1)
    places = np.where(wanted[order][found] == codes, order[found] + 1, 0)
    boxes = []
    for number, box in enumerate(find_objects(places, len(wanted)), start=1):
        if box is not None:
            assert (places[box] == number).all()
        boxes.append(box and (box[0].start, box[1].start, box[0].stop - box[0].start, box[1].stop - box[1].start))
    return boxes


def box_of(pixels, wanted):
    """`boxes_of` one colour."""
    return boxes_of(pixels, [wanted])[0]


@pytest.mark.parametrize(
    ("count", "size", "cell"),
    [(1, (48, 48), (144, 144)), (64, (32, 32), (128, 128)), (20, (150, 100), (300, 200)), (256, (24, 48), (96, 192))],
)
def test_every_filter_stands_at_its_place_with_each_pixel_a_square(tmp_path, count, size, cell):
    path = filter_grid(shown(range(count), size), None, tmp_path / "new" / "grid.png")
    pixels = pixels_of(path)
    boxes = boxes_of(pixels, [colour(number) for number in range(count)])
    assert {box[2:] for box in boxes} == {cell}
    assert boxes == sorted(boxes)  # in rows from the top, each from the left
    height, width = pixels.shape[:2]
    assert 0.5 < width / height < 2 or count == 1


def test_pixels_of_small_pictures_are_kept(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (1, 20, 20, 1))
    found = Shown("a", np.array([5]), picture.astype(np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32))
    pixels = pixels_of(filter_grid(found, None, tmp_path / "one.png"))
    times = 128 // 20 + 1
    large = np.repeat(picture[0].repeat(times, 0).repeat(times, 1), 3, axis=2)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, large.shape)[:, :, 0]
    assert any((window == large).all() for row in windows for window in row[:40])


def test_large_pictures_of_many_filters_are_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_sheet, "_WIDEST", 900)
    pixels = pixels_of(filter_grid(shown(range(16), (300, 250)), None, tmp_path / "many.png"))
    assert box_of(pixels, colour(15))[2:] == (225, 188) and pixels.shape[1] < 900


def test_dead_filters_are_crossed_out_and_others_are_not(tmp_path):
    found, grey = shown(range(4)), shown(range(4), channels=1, colours=lambda number: (40 + number,))
    alive = pixels_of(filter_grid(found, statistics(), tmp_path / "alive.png"))
    assert box_of(alive, colour(2)) and not (alive == DEAD).all(axis=2).any()
    dead = pixels_of(filter_grid(found, statistics(dead=[2]), tmp_path / "dead.png"))
    assert box_of(dead, colour(2)) is None
    assert [box_of(dead, colour(number)) for number in (0, 1, 3)] == [box_of(alive, colour(n)) for n in (0, 1, 3)]
    top, left, height, width = box_of(alive, colour(2))
    place = dead[top : top + height, left : left + width]
    crossed = (place == DEAD).all(axis=2)
    assert crossed[4, 4] and crossed[-5, 4] and crossed[height // 2, width // 2] and not crossed[height // 2, 4]
    assert (dead == DEAD).all(axis=2).sum() == crossed.sum()
    of_grey = pixels_of(filter_grid(grey, statistics(dead=[0]), tmp_path / "grey.png"))
    assert box_of(of_grey, (41, 41, 41)) and box_of(of_grey, (40, 40, 40)) is None


def lines_of(monkeypatch, draw):
    """The text of a sheet, which Pillow only draws."""
    written = []
    monkeypatch.setattr(
        explanation_figures, "with_header", lambda lines, body: written.extend(lines) or original(lines, body)
    )
    draw()
    return "\n".join(written)


original = explanation_figures.with_header


def test_the_header_says_what_is_known(tmp_path, monkeypatch):
    of_layer = statistics(filters=300, dead=[1, 2], field=(math.inf, math.inf))
    text = lines_of(monkeypatch, lambda: filter_grid(shown(range(256)), of_layer, tmp_path / "a.png", "A title"))
    assert "A title" in text and "300 filters" in text and "whole image" in text and "2 dead" in text
    assert "48 × 48" in text and "44 more filters not shown" in text
    text = lines_of(monkeypatch, lambda: filter_grid(shown(range(300)), None, tmp_path / "b.png"))
    assert "encoder1_conv1" in text and "44 more filters not shown" in text and "dead" not in text
    one = statistics(filters=1, field=(5.0, math.inf))
    text = lines_of(monkeypatch, lambda: filter_grid(shown([0]), one, tmp_path / "c.png"))
    assert "1 filter ·" in text and "5 × whole" in text and "not shown" not in text
    assert box_of(pixels_of(tmp_path / "b.png"), colour(256)) is None


def test_a_poster_shows_the_strongest_filters_of_each_layer(tmp_path):
    first = shown(range(6), layer="first", activations=[3, 9, np.nan, 7, 8, 1])
    last = shown([100, 101], layer="last_of_a_long_name", size=(300, 300))
    by_layer = {
        "first": statistics("first", dead=[1]),
        "last_of_a_long_name": statistics(stride=0, field=(math.inf,) * 2),
    }
    pixels = pixels_of(poster([first, last], by_layer, tmp_path / "poster.png", columns=3))
    chosen = [box_of(pixels, colour(number)) for number in (4, 3, 0)]
    assert all(chosen) and chosen == sorted(chosen, key=lambda box: box[1]) and len({box[0] for box in chosen}) == 1
    assert [box_of(pixels, colour(number)) for number in (1, 2, 5)] == [None] * 3
    below = box_of(pixels, colour(101))
    assert below[0] > chosen[0][0] and below[1] == chosen[0][1] and below[2] <= 512
    everything = pixels_of(poster([first], {"first": statistics("first", dead=[1])}, tmp_path / "all.png"))
    assert box_of(everything, colour(2)) and (everything == DEAD).all(axis=2).any()
    assert pixels_of(poster([last], {}, tmp_path / "bare.png", columns=1)).shape[0] > 300


def test_pairs_stand_side_by_side(tmp_path):
    left = shown(range(8))
    right = shown([7, 5, 3, 1, 11], (24, 24), colours=lambda number: (10, 20 + number, 200))
    pixels = pixels_of(pair_figure(left, right, tmp_path / "pairs.png"))
    for number in range(8):
        boxes = box_of(pixels, colour(number)), box_of(pixels, (10, 20 + number, 200))
        if number % 2 == 0:
            assert boxes == (None, None)
            continue
        assert boxes[0][0] == boxes[1][0] and boxes[0][2:] == boxes[1][2:]
        assert boxes[1][1] == boxes[0][1] + boxes[0][3] + 2
    one = pixels_of(pair_figure(left, right, tmp_path / "one.png", ("ImageNet", "lymph nodes"), [5]))
    assert box_of(one, colour(5)) and box_of(one, colour(3)) is None


def test_figures_of_layers_hold_every_value(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(explanation_figures, "write_figure", lambda path, figure: kept.append(figure))
    layers = [
        statistics("one", 8, dead=[1, 2], field=(3.0, 5.0), effective=2.5),
        statistics("two_$x_", 8, field=(math.inf, 9.0), effective=math.nan, sparsity=math.nan),
        statistics("three", 8, field=(40.0, 40.0), effective=9.0),
    ]
    statistics_figure(layers, tmp_path / "a.png")
    dead, sparsity, fields = kept[0].axes
    assert [bar.get_width() for bar in dead.patches] == [25, 0, 0]
    assert [bar.get_width() for bar in sparsity.patches] == [50, 50]
    assert [text.get_text() for text in sparsity.texts] == ["undefined"]
    assert [text.get_text() for text in dead.get_yticklabels()] == ["one", "two_$x_", "three"]
    assert dead.get_ylim()[0] > dead.get_ylim()[1]  # the first layer stands at the top
    theoretical, effective = (line.get_xdata() for line in fields.lines if line.get_marker() in ("o", "^"))
    labels = {text.get_text(): text.get_position()[0] for text in fields.get_xticklabels()}
    assert theoretical[0] == 5 and theoretical[2] == 40 and theoretical[1] == labels["whole\nimage"] > 40
    assert effective.tolist() == [2.5, 9] and len(theoretical) == 3
    assert fields.get_xlim()[1] > theoretical[1]
    changes = [LayerChange("one", 0.0, 1.0, 1.0), LayerChange("two", math.nan, math.nan, math.nan)]
    change_figure([*changes, LayerChange("three", 0.7, 0.2, -0.1)], tmp_path / "b.png", "before_$", "after")
    distance, alignment = kept[1].axes
    assert distance.lines[1].get_xdata().tolist() == [0, 0.7]
    assert alignment.lines[1].get_xdata().tolist() == [1, -0.1]
    assert alignment.lines[1].get_ydata().tolist() == [0, 2]
    assert alignment.get_xlim()[0] < -0.1 and kept[1].get_suptitle() == "before_$ → after"


def test_figures_of_one_layer_and_of_nothing_known_are_drawn(tmp_path):
    unknown = statistics("one", field=(math.inf, math.inf), effective=math.nan, sparsity=math.nan)
    for layers in ([unknown], [statistics(field=(1.0, 1.0), effective=1.0)]):
        with Image.open(statistics_figure(layers, tmp_path / "a.png")) as image:
            assert image.width == 1900 and image.height < 500
    for change in (LayerChange("one", math.nan, math.nan, math.nan), LayerChange("one", 0.0, 1.0, 1.0)):
        with Image.open(change_figure([change], tmp_path / "b.png", "a", "b")) as image:
            assert image.width == 1400
    many = [LayerChange(f"layer{number}", 0.1, 1.0, 1.0) for number in range(60)]
    with Image.open(change_figure(many, tmp_path / "c.png", "a", "b")) as image:
        assert image.height == pytest.approx(200 * (60 * layer_panels.ROW + layer_panels.AROUND), abs=2)


IMAGE = np.full((60, 80, 1), 90, np.uint8)
# Where the axes of the two pictures lie: 2.7 inches wide at 200 pixels an inch, 0.14 beside and 0.35 above them.
LEFT, TOP, SCALE = 28, 70, 540 / 80
SECOND = LEFT + 568


def at(pixels, row, column, left=SECOND):
    """The colour at the middle of an image's pixel."""
    return pixels[int(TOP + (row + 0.5) * SCALE), int(left + (column + 0.5) * SCALE)].astype(int)


def test_maps_lie_where_they_should_on_the_image(tmp_path):
    strong = np.zeros((60, 80), np.float32)
    strong[40:, 60:] = 1
    pixels = pixels_of(attribution_panel(IMAGE, {"Grad-CAM": strong}, tmp_path / "a.png"))
    assert (at(pixels, 50, 70, LEFT) == 90).all() and (at(pixels, 10, 10) == 90).all()
    red, green, blue = at(pixels, 50, 70)
    assert red > 180 and green > 180 and blue < 150
    signed = np.zeros((60, 80), np.float32)
    signed[:20], signed[40:] = 2, -2
    pixels = pixels_of(attribution_panel(IMAGE.repeat(3, 2), {"signed": signed}, tmp_path / "b.png"))
    above, middle, below = (at(pixels, row, 40) for row in (5, 30, 55))
    assert above[0] > above[2] + 100 and below[2] > below[0] + 100 and np.abs(middle - 90).max() <= 2


def test_one_outlier_does_not_hide_a_map(tmp_path):
    values = np.full((60, 80), 0.01, np.float32)
    values[:, 40:] = 0
    values[0, 0], values[59, 79], values[0, 79] = 1e6, np.inf, np.nan
    pixels = pixels_of(attribution_panel(IMAGE, {"map": values}, tmp_path / "a.png"))
    assert at(pixels, 30, 20)[0] > 180 and (at(pixels, 30, 60) == 90).all()
    assert (at(pixels, 59, 79) == 90).all() and (at(pixels, 0, 79) == 90).all()


def test_the_mask_is_outlined_in_every_picture(tmp_path):
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:] = True
    maps = {"nothing": np.zeros((60, 80), np.float32)}
    pixels = pixels_of(attribution_panel(IMAGE, maps, tmp_path / "a.png", mask, "A caption " * 30))
    is_green = (np.abs(pixels.astype(int) - GREEN) < 40).all(axis=2)
    for left in (LEFT, SECOND):
        column = int(left + 50 * SCALE)
        found = (np.flatnonzero(is_green[:, column]) - TOP) / SCALE
        assert found.min() == pytest.approx(20, abs=0.8) and found.max() == pytest.approx(40, abs=0.8)
        assert is_green[int(TOP + 30 * SCALE), int(left + 79.3 * SCALE) :].any()  # along the border too
    without = pixels_of(attribution_panel(IMAGE, maps, tmp_path / "b.png", np.zeros((60, 80), np.uint8)))
    assert without.shape[0] < pixels.shape[0] and not (np.abs(without.astype(int) - GREEN) < 40).all(axis=2).any()
    many = {f"map {number}": maps["nothing"] for number in range(5)}
    assert pixels_of(attribution_panel(IMAGE, many, tmp_path / "c.png")).shape[0] > 2 * 400


def test_a_sanity_check_is_drawn_with_what_is_undefined(tmp_path):
    rows = (SanityRow(1, "logits", 0.8, 0.9, 0), SanityRow(4, "$first_", -0.2, math.nan, 2))
    for shown_rows in (rows, rows[:1]):
        with Image.open(sanity_figure(shown_rows, tmp_path / "sanity.png")) as image:
            assert image.size == (1040, 780)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    empty, path = shown([]), tmp_path / "a.png"
    for draw in (
        lambda: filter_grid(empty, None, path),
        lambda: filter_grid(shown([0], channels=2), None, path),
        lambda: poster([], {}, path),
        lambda: poster([empty], {}, path),
        lambda: poster([shown([0])], {}, path, columns=0),
        lambda: pair_figure(shown([0]), empty, path),
        lambda: pair_figure(shown([0]), shown([1]), path),
        lambda: pair_figure(shown([0, 1]), shown([1, 2]), path, filters=[1, 2]),
        lambda: pair_figure(shown([0]), shown([0], layer="other"), path),
        lambda: statistics_figure([], path),
        lambda: change_figure([], path, "a", "b"),
        lambda: attribution_panel(IMAGE, {}, path),
        lambda: attribution_panel(IMAGE / 255, {"a": IMAGE[..., 0]}, path),
        lambda: sanity_figure([], path),
    ):
        with pytest.raises(DataError, match="expected"):
            draw()
    with pytest.raises(ShapeError, match=r"mask: shape \(3, 3\)"):
        attribution_panel(IMAGE, {"a": IMAGE[..., 0]}, path, np.ones((3, 3)))
    with pytest.raises(ShapeError, match=r"a: shape \(60, 80, 1\)"):
        attribution_panel(IMAGE, {"a": IMAGE}, path)
    with pytest.raises(OutputError, match=r"\.png"):
        filter_grid(shown([0]), None, tmp_path / "a.jpg")
    with pytest.raises(OutputError, match="ends in one of"):
        sanity_figure([SanityRow(1, "a", 0.0, 0.0, 0)], tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_pictures_need_no_tensorflow():
    script = (
        "import sys, ustoolkit.report.explanation_figures, ustoolkit.report.attribution_figures; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
