import json
import math

import numpy as np
import pytest
from hypothesis import given, strategies

from ustoolkit.errors import DataError, OutputError, RunError, ShapeError
from ustoolkit.evaluation import METRICS, tables
from ustoolkit.evaluation.tables import (
    COLUMNS,
    evaluate_image,
    format_summary,
    read_rows,
    summarise_rows,
    write_tables,
)

KNOWN = (
    "dice",
    "iou",
    "adjusted_rand",
    "pixel_accuracy",
    "pixel_error",
    "sensitivity",
    "specificity",
    "hausdorff95_pixel",
    "hausdorff95_penalised_pixel",
    "hausdorff95_mm",
    "hausdorff95_penalised_mm",
)
CLASSES = ("background", "benign", "malignant")
TRUTH = np.array([[0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0]], np.uint8)
PREDICTION = np.array([[0, 0, 1, 1, 0, 2], [0, 0, 1, 1, 0, 2]], np.uint8)
NAMES = strategies.text(strategies.characters(exclude_categories=["Cs"], exclude_characters="\r"))
VALUES = strategies.floats(0, 1e9) | strategies.just(math.nan)


def same(first, second):
    return first == second or (first != first and second != second)


@pytest.fixture
def rows():
    images = [
        ("scan 1", "p1", TRUTH, PREDICTION),
        ("scan 2", "p1", TRUTH, TRUTH),
        ("scan 3", "p2", TRUTH, 0 * TRUTH),
    ]
    return [
        {"source_id": source_id, "patient_id": patient_id, "label": "benign", **row}
        for source_id, patient_id, truth, prediction in images
        for row in evaluate_image(truth, prediction, CLASSES)
    ]


def as_far_as_known(row):
    """A row without metrics that came after these tests."""
    return {column: value for column, value in row.items() if column not in METRICS or column in KNOWN}


def test_a_drawn_image():
    benign, malignant = evaluate_image(TRUTH, PREDICTION, CLASSES, spacing_mm=(0.5, 0.1))
    assert as_far_as_known(benign) == pytest.approx(
        {
            "class": "benign",
            "dice": 0.5,
            "iou": 1 / 3,
            "adjusted_rand": (18 - 34 * 34 / 66) / (34 - 34 * 34 / 66),
            "pixel_accuracy": 8 / 12,
            "pixel_error": 4 / 12,
            "sensitivity": 0.5,
            "specificity": 6 / 8,
            "hausdorff95_pixel": 1.0,
            "hausdorff95_penalised_pixel": 1.0,
            "hausdorff95_mm": 0.1,
            "hausdorff95_penalised_mm": 0.1,
            "truth_pixels": 4,
            "predicted_pixels": 4,
        }
    )
    assert as_far_as_known(malignant) == pytest.approx(
        {
            "class": "malignant",
            "dice": 0.0,
            "iou": 0.0,
            "adjusted_rand": 0.0,
            "pixel_accuracy": 10 / 12,
            "pixel_error": 2 / 12,
            "sensitivity": math.nan,
            "specificity": 10 / 12,
            "hausdorff95_pixel": math.nan,
            "hausdorff95_penalised_pixel": math.hypot(2, 6),
            "hausdorff95_mm": math.nan,
            "hausdorff95_penalised_mm": math.hypot(1.0, 0.6),
            "truth_pixels": 0,
            "predicted_pixels": 2,
        },
        nan_ok=True,
    )


def test_without_spacing_only_the_millimetres_are_undefined():
    benign = evaluate_image(TRUTH, PREDICTION, CLASSES)[0]
    assert [name for name in KNOWN if math.isnan(benign[name])] == [
        "hausdorff95_mm",
        "hausdorff95_penalised_mm",
    ]


def test_one_row_for_each_class_but_the_background():
    assert evaluate_image(TRUTH * 0, TRUTH * 0, ["background"]) == []
    assert [row["class"] for row in evaluate_image(TRUTH, TRUTH, CLASSES)] == ["benign", "malignant"]


def test_wrong_masks_are_refused():
    with pytest.raises(ShapeError, match=r"\(2, 6\).*\(6, 2\)"):
        evaluate_image(TRUTH, PREDICTION.T, CLASSES)
    with pytest.raises(DataError, match=r"the prediction holds class indices 0 to 2; expected 0 to 1"):
        evaluate_image(TRUTH, PREDICTION, CLASSES[:2])


def test_round_trip(tmp_path, rows):
    write_tables(tmp_path / "new" / "folder", rows, {"threshold": 0.5})
    for path in (tmp_path / "new" / "folder", tmp_path / "new" / "folder" / "per_image.csv"):
        back = read_rows(path)
        assert len(back) == len(rows) == 6
        for row, copy in zip(rows, back, strict=True):
            assert tuple(copy) == COLUMNS
            assert all(same(row[column], copy[column]) for column in COLUMNS)
            assert all(type(row[column]) is type(copy[column]) for column in COLUMNS)


@pytest.mark.parametrize("names", [("adjusted_rand", "pixel_error"), ("dice", "hausdorff95_mm")])
def test_a_table_that_is_older_than_some_metrics(tmp_path, rows, names):
    write_tables(tmp_path, rows, {})
    later = [COLUMNS.index(name) for name in names]
    path = tmp_path / "per_image.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("".join(",".join(np.delete(cells, later)) + "\n" for cells in lines))
    for row, copy in zip(rows, read_rows(tmp_path), strict=True):
        assert tuple(copy) == COLUMNS
        assert all(math.isnan(copy[name]) for name in names)
        others = [column for number, column in enumerate(COLUMNS) if number not in later]
        assert all(same(row[column], copy[column]) for column in others)
    path.write_text(path.read_text() + "a,b\n")
    with pytest.raises(RunError, match=f"expected {len(COLUMNS) - 2} cells, found 2"):
        read_rows(tmp_path)


@given(strategies.lists(strategies.tuples(NAMES, NAMES, NAMES, VALUES, strategies.integers(0, 10**9)), max_size=4))
def test_round_trip_of_strange_names_and_numbers(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("tables")
    rows = [
        {
            "source_id": source_id,
            "patient_id": patient_id,
            "label": label,
            "class": "lesion",
            **dict.fromkeys(METRICS, np.float64(value)),
            "truth_pixels": count,
            "predicted_pixels": np.int64(count),
        }
        for source_id, patient_id, label, value, count in drawn
    ]
    write_tables(folder, rows, {})
    for row, copy in zip(rows, read_rows(folder), strict=True):
        assert all(same(row[column], copy[column]) for column in COLUMNS)


def test_files_as_written(tmp_path, rows):
    metrics = write_tables(tmp_path, rows, {"threshold": 0.5})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "per_image.csv"]
    header, first, *_ = (tmp_path / "per_image.csv").read_text().split("\n")
    cells = as_far_as_known(dict(zip(header.split(","), first.split(","), strict=True)))
    assert ",".join(cells) == (
        "source_id,patient_id,label,class,dice,iou,adjusted_rand,pixel_accuracy,pixel_error,sensitivity,specificity,"
        "hausdorff95_pixel,hausdorff95_penalised_pixel,hausdorff95_mm,hausdorff95_penalised_mm,truth_pixels,predicted_pixels"
    )
    rand, known = rows[0]["adjusted_rand"], ",".join(cells.values())
    assert known == f"scan 1,p1,benign,benign,0.5,{1 / 3!r},{rand!r},{8 / 12!r},{4 / 12!r},0.5,0.75,1.0,1.0,,,4,4"
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert (written["settings"], written["images"], written["patients"]) == ({"threshold": 0.5}, 3, 2)
    assert list(written["classes"]) == ["benign", "malignant"]
    assert list(written["classes"]["benign"]) == list(METRICS)
    assert written["classes"]["benign"]["hausdorff95_mm"]["mean"] is None
    assert written["classes"]["benign"]["dice"] == metrics["classes"]["benign"]["dice"]


def test_summaries_count_what_is_undefined_and_draw_patients(rows):
    classes = summarise_rows(rows, {})["classes"]
    dice, plain, penalised = (
        classes["benign"][name] for name in ("dice", "hausdorff95_pixel", "hausdorff95_penalised_pixel")
    )
    assert dice["mean"] == pytest.approx(0.5) and (dice["count"], dice["undefined"]) == (3, 0)
    assert (dice["interval_low"], dice["interval_high"]) == (0.0, 0.75)
    assert plain["mean"] == pytest.approx(0.5) and (plain["count"], plain["undefined"]) == (2, 1)
    assert math.isnan(plain["interval_low"])  # both defined distances are of one patient
    assert penalised["mean"] == pytest.approx((1 + 0 + math.hypot(2, 6)) / 3)


def test_no_rows(tmp_path):
    metrics = write_tables(tmp_path, [], {})
    assert (metrics["images"], metrics["patients"], metrics["classes"]) == (0, 0, {})
    assert read_rows(tmp_path) == []
    assert format_summary(metrics) == "0 images of 0 patients"


def test_a_file_in_the_way_is_said(tmp_path, rows):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="taken"):
        write_tables(tmp_path / "taken", rows, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found none"),
        (b"source_id,dice\na,1\n", "expected the columns"),
        (b"\xff\xfe\x00", "found something else"),
        (b'"never closed', "found something else"),
        ((",".join(COLUMNS) + "\na,b\n").encode(), f"row 1: expected {len(COLUMNS)} cells, found 2"),
        (
            (",".join(COLUMNS) + "\na,p,l,c" + ",high" * (len(COLUMNS) - 4)).encode(),
            "expected a number as dice, found 'high'",
        ),
        (
            (",".join(COLUMNS) + "\na,p,l,c" + "," * (len(COLUMNS) - 4)).encode(),
            "expected a number as truth_pixels, found ''",
        ),
    ],
)
def test_a_broken_table_is_said(tmp_path, content, message):
    (tmp_path / "per_image.csv").write_bytes(content)
    with pytest.raises(RunError, match=rf"per_image\.csv.*{message}.*Run ustoolkit evaluate first"):
        read_rows(tmp_path)


def test_a_missing_table_is_said(tmp_path):
    with pytest.raises(RunError, match=r"gone\.csv: no such file\. Run ustoolkit evaluate first"):
        read_rows(tmp_path / "gone.csv")
    with pytest.raises(RunError, match=r"per_image\.csv: no such file"):
        read_rows(tmp_path)


def test_summary_for_the_terminal(tmp_path, rows):
    text = format_summary(write_tables(tmp_path, rows, {}))
    lines = text.splitlines()
    assert lines[0] == "3 images of 2 patients"
    assert lines[2].split() == ["benign", "mean", "±", "sd", "95", "%", "interval", "undefined"]
    assert lines[3].split() == ["dice", "0.500", "±", "0.500", "0.000", "to", "0.750", "0"]
    assert next(line.split() for line in lines if "hausdorff95_mm" in line) == [
        "hausdorff95_mm",
        "-",
        "-",
        "3",
    ]
    block = lines[2 : 3 + len(METRICS)]
    assert len({len(line) for line in block}) == 1
    assert max(map(len, lines)) <= 80
    assert text == format_summary(json.loads((tmp_path / tables.METRICS_FILE).read_text()))


MATRIX = np.array([[50, 2, 0], [4, 6, 0], [0, 0, 0]])


def test_all_pixels_together_are_kept_and_printed(tmp_path, rows):
    metrics = write_tables(tmp_path, rows, {}, MATRIX)
    confusion = json.loads((tmp_path / "metrics.json").read_text())["confusion"]
    assert confusion["classes"] == ["background", "benign", "malignant"]
    assert confusion["matrix"] == MATRIX.tolist()
    assert confusion["iou"] == [pytest.approx(50 / 56), pytest.approx(6 / 12), None]
    assert confusion["mean_iou"] == pytest.approx((50 / 56 + 6 / 12) / 2)
    assert confusion["pixel_accuracy"] == pytest.approx(56 / 62)
    tables_alone = format_summary(summarise_rows(rows, {}))
    expected = (
        "Intersection over Union for each class:\n  class 0: 0.8929\n  class 1: 0.5000\n  class 2: -\n"
        "mean Intersection over Union: 0.6964\nPixel Accuracy: 0.9032"
    )
    assert format_summary(metrics) == f"{tables_alone}\n\n{expected}"
    assert format_summary(json.loads((tmp_path / "metrics.json").read_text())) == format_summary(metrics)


def test_without_a_matrix_nothing_is_said_of_all_pixels(tmp_path, rows):
    metrics = write_tables(tmp_path, rows, {})
    assert "confusion" not in metrics
    assert "Intersection" not in format_summary(metrics)


def test_names_that_do_not_fit_the_matrix_are_left_out(rows):
    assert "classes" not in summarise_rows([], {}, MATRIX)["confusion"]
    with pytest.raises(ShapeError, match="confusion matrix"):
        summarise_rows(rows, {}, MATRIX[:2])
