"""How large the pictures of a page are, and what they hold."""

import base64
import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.report.runs import keep_probabilities, make_all, make_evaluation, make_records, make_run, renamed
from ustoolkit.data.phantom import phantom_samples
from ustoolkit.errors import RunError
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.report.html import write_report
from ustoolkit.report.image_pictures import image_pictures, longest_side
from ustoolkit.report.scores import image_scores


def scores_of(run, records):
    return image_scores(read_rows(run.evaluation("test")), records.index)[0]


def pixels_of(encoded):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("L"))


def test_pictures_stand_in_the_order_of_the_scores_and_show_their_image(tmp_path):
    run, records = make_all(tmp_path)
    scores = scores_of(run, records)[::-1]
    pictures = image_pictures(scores, records, run.evaluation("test"), 2)
    samples = {sample.source_id: sample for sample in records.read()}
    for score, picture in zip(scores, pictures, strict=True):
        sample = samples[score.source_id]
        size = picture["width"], picture["height"]
        assert max(size) == 320 and "probability" not in picture and "other" not in picture
        shown = pixels_of(picture["image"])
        assert shown.shape == size[::-1]
        expected = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
        assert np.abs(shown.astype(float) - expected).mean() < 6
        assert len(picture["truth"]) == 1 and picture["truth"][0].startswith("M")


def test_a_probability_is_shown_where_it_was_kept_and_refused_where_it_is_damaged(tmp_path):
    run, records = make_all(tmp_path)
    keep_probabilities(run, records)
    scores = scores_of(run, records)
    kept = sorted((run.evaluation("test") / "probabilities").iterdir())
    kept[0].unlink()
    pictures = image_pictures(scores, records, run.evaluation("test"), 2)
    assert ["probability" in picture for picture in pictures].count(False) == 1
    kept[1].write_bytes(b"no picture")
    with pytest.raises(RunError, match=r"expected a picture of probabilities.*Run 'ustoolkit evaluate' again"):
        image_pictures(scores, records, run.evaluation("test"), 2)


def test_many_images_get_smaller_pictures():
    assert longest_side(1) == longest_side(500) == 320
    sides = [longest_side(count) for count in (501, 1000, 2000, 4000)]
    assert sides == sorted(sides, reverse=True)
    assert 1000 * longest_side(1000) ** 2 == pytest.approx(500 * 320**2, rel=0.02)
    assert longest_side(10**6) == 96


def test_a_page_of_500_images_stays_below_15_megabytes(tmp_path):
    """Measured on a few phantoms of 300 × 400 and scaled up; what is no picture is measured and added."""
    count = 8
    samples = [renamed(s, f"a longer name of scan {s.source_id}") for s in phantom_samples(count, 3, size=(300, 400))]
    records = make_records(tmp_path / "records", samples)
    run = make_run(tmp_path / "run", records)
    splits = json.loads((run.folder / "splits.json").read_text())
    splits["parts"]["test"] = [sample.source_id for sample in samples]
    (run.folder / "splits.json").write_text(json.dumps(splits))
    make_evaluation(run, records)
    keep_probabilities(run, records)
    text = write_report(run, records).read_text(encoding="utf-8")
    drawn = text.split('id="image-data">')[1].split("</script>")[0]
    rows = text.split('id="image-table"')[1].split("</table>")[0]
    an_image = (len(drawn.encode()) + len(rows.encode())) / count
    assert 500 * an_image + (len(text.encode()) - count * an_image) < 15e6
    assert an_image > 5000  # the pictures are there
