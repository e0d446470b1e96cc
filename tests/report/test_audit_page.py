"""The page of an audit shows what is wrong on the images, holds everything itself, and stays small."""

import base64
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.report.page import Page
from ustoolkit.cli import main
from ustoolkit.data.audit import audit
from ustoolkit.data.phantom import phantom_samples
from ustoolkit.data.readers.entry import Entry, Refused
from ustoolkit.errors import DataError, OutputError
from ustoolkit.inference.overlay import TRUTH_COLOUR
from ustoolkit.recipe import DataSetSettings
from ustoolkit.report.audit_page import MOST_CASES, MOST_IMAGES, audit_page, write_audit

LABELS = DataSetSettings().labels
ODD = 'scan <b>"1"</b> & {{ 7 * 7 }}'


@pytest.fixture(scope="module")
def samples():
    return list(phantom_samples(12, 0, size=(64, 80)))


def entries_of(samples):
    return [Entry(sample.source_id, lambda sample=sample: sample) for sample in samples]


def page_of(samples, refused=()):
    entries = entries_of(samples)
    result = audit([*entries, *(Entry(name, Refused(f"{name}: damaged")) for name in refused)], LABELS, workers=1)
    text = audit_page({"name": "my set", "format": "table", **result}, entries)
    page = Page(text)
    assert not page.faults
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in page.addresses())
    assert len(page.ids()) == len(set(page.ids()))
    return page


def pictures(page):
    """The pictures of a page, by what they are said to be."""
    addresses = [(found["alt"], found["src"]) for tag, found in page.elements if tag == "img"]
    return {alt: np.asarray(Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2])))) for alt, src in addresses}


def test_a_clean_set_says_so_and_shows_no_patient(samples):
    page = page_of(samples)
    assert "12 images" in page.words() and "No problems were found." in page.words()
    assert not pictures(page)


def test_images_of_one_picture_stand_side_by_side_with_their_outlines(samples):
    double = dataclasses.replace(samples[0], source_id="double", label="malignant", patient_id="another")
    first = dataclasses.replace(samples[0], label="benign")
    page = page_of([first, double, *samples[1:]])
    assert "same picture, different labels" in page.words()
    shown = pictures(page)
    for name in (first.source_id, "double"):
        picture = shown[f"Image {name} with the outline of its mask"]
        away = np.abs(picture.astype(int) - TRUTH_COLOUR).sum(axis=-1)
        outlined = away < 120
        assert outlined.any()
        rows, columns = np.nonzero(first.mask)
        found = np.nonzero(outlined)
        assert abs(found[0].mean() - rows.mean()) < 6 and abs(found[1].mean() - columns.mean()) < 6


def test_what_a_name_holds_stays_text(samples):
    odd = dataclasses.replace(samples[0], source_id=ODD, mask=None, label="<script>", attributes={"device": "<i>X</i>"})
    page = page_of([odd, *samples[1:]], refused=["bad </ul> file"])
    assert ODD in page.text and "<i>X</i>" in page.text and "bad </ul> file" in page.text
    assert not {"b", "i", "script"} & (page.tags() - {"b"})


def test_few_images_are_shown_of_many_and_the_page_says_how_many_there_are(samples):
    without = [dataclasses.replace(samples[n % 12], source_id=f"image {n:04}", mask=None) for n in range(1, 700)]
    page = page_of([samples[0], *without])
    assert len(pictures(page)) <= MOST_IMAGES
    assert f"{MOST_CASES['notice']} of 699 shown; the names of the first 500" in page.words()
    assert "image 0001" in page.words() and "image 0500" in page.words() and "image 0600" not in page.words()


def test_only_the_images_that_are_shown_are_read_again_and_one_that_is_gone_is_named(samples):
    read = []

    def load(sample):
        read.append(sample.source_id)
        if sample.source_id == samples[2].source_id and len(read) > len(samples):
            raise DataError("gone")
        return sample

    changed = [*samples[:2], *(dataclasses.replace(sample, mask=None) for sample in samples[2:4]), *samples[4:]]
    entries = [Entry(sample.source_id, lambda sample=sample: load(sample)) for sample in changed]
    result = audit(entries, LABELS, workers=1)
    assert len(read) == len(samples)
    page = Page(audit_page(result, entries))
    assert set(read[len(samples) :]) <= {samples[2].source_id, samples[3].source_id}
    assert "no picture" in page.words() and samples[2].source_id in page.words()


def test_the_table_and_the_plots_tell_labels_and_devices_apart(samples):
    page = page_of(
        [dataclasses.replace(sample, attributes={"Device": f"D{n % 2}"}) for n, sample in enumerate(samples)]
    )
    assert "by label" in page.words() and "by device" in page.words()
    assert sum(tag == "svg" for tag, _ in page.elements) == 4
    assert "D0" in page.words() and "D1" in page.words()


def test_the_folder_holds_the_findings_too_and_an_older_audit_is_replaced_when_told(tmp_path, samples):
    entries = entries_of(samples)
    result = audit(entries, LABELS, workers=1)
    path = write_audit(result, entries, tmp_path / "audit")
    assert path == tmp_path / "audit" / "audit.html" and path.is_file()
    assert json.loads((tmp_path / "audit" / "audit.json").read_text()) == json.loads(json.dumps(result))
    with pytest.raises(OutputError, match="--overwrite"):
        write_audit(result, entries, tmp_path / "audit")
    before = path.read_bytes()
    write_audit(result, entries, tmp_path / "audit", overwrite=True)
    assert path.read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match=r"audit\.json"):
        write_audit(result, entries, tmp_path / "mine", overwrite=True)


def test_the_command_writes_page_and_list_and_checks_a_given_split(capsys, tmp_path, phantom_folder):
    split = {"parts": {"train": ["phantom_0000"], "test": ["phantom_0000", "no such image"]}}
    (tmp_path / "splits.json").write_text(json.dumps(split))
    out, list_file = tmp_path / "audit", tmp_path / "exclude.txt"
    words = ["inspect", phantom_folder, "--out", out, "--exclude", list_file, "--splits", tmp_path / "splits.json"]
    assert main([str(word) for word in words]) == 0
    text = capsys.readouterr().out
    assert "error    patient in different parts" in text and "warning  unknown image in a split" in text
    assert Page((out / "audit.html").read_text()).faults == []
    assert list_file.read_text().startswith("#")
    for more, message in (
        ([], "--overwrite"),
        (["--overwrite", "--splits", str(out / "audit.json")], "expected 'parts'"),
    ):
        assert main([*(str(word) for word in words), *more]) == 2
        assert message in capsys.readouterr().err
    assert main([*(str(word) for word in words), "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exclude"] == {"file": str(list_file), "images": 0}


def test_where_no_image_can_be_read_the_command_says_why_and_writes_nothing(capsys, tmp_path):
    for name in ("a.png", "a_mask.png"):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"no image")
    assert main(["inspect", str(tmp_path / "set"), "--out", str(tmp_path / "audit")]) == 2
    assert "no image could be read" in capsys.readouterr().err
    assert not (tmp_path / "audit").exists()
