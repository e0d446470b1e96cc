"""Splits that ignore patients: what they divide, and what they keep alike."""

from dataclasses import replace
from itertools import chain

import pytest

from ustoolkit.data.leaks import find_leaks
from ustoolkit.data.records import Records
from ustoolkit.data.split import read_splits
from ustoolkit.errors import RecordsError
from ustoolkit.studies.comparison import Protocol
from ustoolkit.studies.protocols import prepare, protocol_records, protocol_splits

BY_IMAGE = Protocol("image-wise")
COPIES = Protocol("augment-then-split", expand_to=60, train=40)


@pytest.fixture
def given(records):
    return read_splits(records.folder / "splits.json", records)


def tally(records, names):
    labels = {row.source_id: row.label for row in records.index}
    return sorted(labels[name] for name in names)


def test_a_split_by_image_has_parts_and_labels_of_the_same_size(records, given, tmp_path):
    prepare([BY_IMAGE], records, given, tmp_path, seeds=2)
    assert protocol_records(BY_IMAGE, tmp_path) is None
    drawn = [read_splits(protocol_splits(BY_IMAGE, tmp_path, seed), records, allow_leak=True) for seed in (0, 1)]
    for parts in drawn:
        assert {part: tally(records, names) for part, names in parts.items()} == {
            part: tally(records, names) for part, names in given.items()
        }
        assert sorted(chain(*parts.values())) == sorted(chain(*given.values()))
    assert drawn[0] != drawn[1] != given
    before = protocol_splits(BY_IMAGE, tmp_path, 0).read_bytes()
    prepare([BY_IMAGE], records, given, tmp_path, seeds=1)
    assert protocol_splits(BY_IMAGE, tmp_path, 0).read_bytes() == before


def test_copies_made_first_are_divided_at_random(records, given, tmp_path):
    prepare([COPIES], records, given, tmp_path, seeds=1)
    expanded = Records(protocol_records(COPIES, tmp_path))
    parts = read_splits(protocol_splits(COPIES, tmp_path, 0), expanded, allow_leak=True)
    assert {part: len(names) for part, names in parts.items()} == {"train": 40, "validation": 4, "test": 16}
    assert all(tally(expanded, names).count("malignant") * 2 == len(names) for names in parts.values())
    originals = {row.source_id: row for row in records.index}
    for row in expanded.index:
        original = originals[row.attributes.get("expanded_from", row.source_id)]
        assert (row.patient_id, row.label) == (original.patient_id, original.label)
    assert find_leaks(parts, expanded.index), "nothing leaks"
    stamp = (expanded.folder / "manifest.json").stat().st_mtime_ns
    prepare([COPIES], records, given, tmp_path, seeds=2)
    assert (expanded.folder / "manifest.json").stat().st_mtime_ns == stamp, "it was made again"
    with pytest.raises(RecordsError, match="found those of others"):
        prepare([replace(COPIES, expand_to=66)], records, given, tmp_path, seeds=1)


def test_too_few_images_for_copies_or_parts_are_refused(records, given, tmp_path):
    with pytest.raises(RecordsError, match="Raise it"):
        prepare([replace(COPIES, expand_to=10)], records, given, tmp_path, seeds=1)
    few = {part: names[:1] for part, names in given.items()}
    with pytest.raises(RecordsError, match="too few to be in every part"):
        prepare([Protocol("tiny", expand_to=4, train=3)], records, few, tmp_path, seeds=1)
