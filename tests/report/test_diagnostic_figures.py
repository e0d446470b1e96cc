import re

import matplotlib
import numpy as np
import pytest
from PIL import Image
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.report.page import Page
from ustoolkit.errors import DataError, OutputError
from ustoolkit.report.diagnostic_figures import FIGURES, ScoredImages, page_plot, precision_recall_figure, roc_figure
from ustoolkit.report.figure_files import write_figure

KINDS = list(FIGURES)


def scored(seed, threshold=0.4):
    generator = np.random.default_rng(seed)
    truth = np.arange(60) % 3 == 0
    return ScoredImages(truth, expit(generator.normal(size=60) + 1.5 * truth - 1), threshold)


CURVES = {"densenet161": scored(0), "resnet50": scored(1), "lesion_features": scored(2, None)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", [["resnet50"], list(CURVES)])
def test_plots_stand_inside_a_page(kind, names):
    plot = page_plot(kind, {name: CURVES[name] for name in names}, prefix="test-")
    page = Page(plot)
    assert page.faults == [] and page.elements[0][0] == "svg"
    assert all(name in page.elements[0][1]["aria-label"] and f"{name}: " in page.text for name in names)
    assert "http" not in plot and "font-family" not in plot and "nan" not in plot.lower()
    # Whatever has a colour follows the page's mode: none of Matplotlib's own, black text included.
    assert not re.search(r"(fill|stroke): #", plot)
    assert all("fill: var(--" in text for text in re.findall(r"<text [^>]*>", plot))
    assert plot == page_plot(kind, {name: CURVES[name] for name in names}, prefix="test-")


def test_scores_stand_beside_the_names():
    data = CURVES["resnet50"]
    text = Page(page_plot("roc", CURVES)).text
    assert f"resnet50: area {roc_auc_score(data.truth, data.probability):.3f} (" in text
    text = Page(page_plot("precision_recall", CURVES)).text
    assert f"resnet50: average precision {average_precision_score(data.truth, data.probability):.3f}" in text
    assert "calibration error" in Page(page_plot("reliability", CURVES)).text


@pytest.mark.parametrize("draw", [roc_figure, precision_recall_figure])
def test_operating_point_lies_where_its_rates_are(draw):
    data = CURVES["densenet161"]
    called = data.probability >= 0.4
    sensitivity = called[data.truth].mean()
    expected = {
        roc_figure: (called[~data.truth].mean(), sensitivity),
        precision_recall_figure: (sensitivity, data.truth[called].mean()),
    }[draw]
    points = [line for line in draw({"one": data}).axes[0].lines if len(line.get_xdata()) == 1]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in points] == [pytest.approx(expected)]
    without = draw({"one": scored(0, None)}).axes[0].lines
    assert not [line for line in without if len(line.get_xdata()) == 1]


def test_histogram_holds_every_image():
    data = ScoredImages(np.array([0, 1, 0, 1, 1]), np.array([0.0, 0.1, 0.3, 0.3, 1.0]))
    steps = FIGURES["reliability"][0]({"one": data}).axes[1].patches
    assert steps[0].get_data().values.tolist() == [2, 0, 2, 0, 0, 0, 0, 0, 0, 1]


def test_any_name_can_be_drawn():
    names = ["_hidden", "$a_b$ & <c>", "x" * 30 + "_seed_1", *"defg"]
    text = Page(page_plot("roc", dict.fromkeys(names, scored(0)))).text
    assert "_hidden: " in text and "$a_b$ & <c>: " in text and "_seed_1: " in text and "x" * 20 not in text


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("kind", KINDS)
def test_files_have_ordinary_colours_and_repeat(kind, ending, tmp_path):
    figure = FIGURES[kind][0](CURVES)
    write_figure(tmp_path / "new" / f"one{ending}", figure)
    first = (tmp_path / "new" / f"one{ending}").read_bytes()
    write_figure(tmp_path / f"one{ending}", figure)
    assert (tmp_path / f"one{ending}").read_bytes() == first
    if ending == ".svg":
        text = first.decode()
        assert "#2f6fb4" in text and "var(" not in text and "#0101" not in text and "#0102" not in text
    if ending == ".png":
        image = Image.open(tmp_path / "one.png").convert("RGB")
        colours = {colour for _, colour in image.getcolors(2**20)}
        assert image.width == 800 and {(255, 255, 255), (0x2F, 0x6F, 0xB4), (0x5D, 0x63, 0x69)} <= colours


def test_writing_leaves_figure_and_settings_as_they_were(tmp_path):
    before, figure = dict(matplotlib.rcParams), roc_figure(CURVES)
    write_figure(tmp_path / "roc.png", figure)
    assert figure.axes[0].lines[1].get_color() == roc_figure(CURVES).axes[0].lines[1].get_color()
    assert dict(matplotlib.rcParams) == before


def test_messages_name_what_is_wrong(tmp_path):
    one_class = {"run 1": ScoredImages(np.ones(4, bool), np.full(4, 0.5))}
    for kind in ("roc", "precision_recall"):
        with pytest.raises(DataError, match="run 1: 4 positive and 0 negative"):
            page_plot(kind, one_class)
    assert page_plot("reliability", one_class).startswith("<svg")
    with pytest.raises(DataError, match="no curve"):
        page_plot("roc", {})
    with pytest.raises(DataError, match="run 1: 0 positive and 0 negative"):
        page_plot("reliability", {"run 1": ScoredImages(np.array([]), np.array([]))})
    with pytest.raises(OutputError, match="ends in one of"):
        write_figure(tmp_path / "roc.gif", roc_figure(CURVES))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_figure(tmp_path / "file" / "roc.png", roc_figure(CURVES))
