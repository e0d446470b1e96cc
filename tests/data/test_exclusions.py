"""A list of images to leave out reads back as written, and as a person would write it by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustoolkit.data.exclusions import read_exclusions, write_exclusions
from ustoolkit.errors import DataError, OutputError

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["a  # b", "# a", "a #1", '"a"', '"', " a ", "a\nb", "a\r", "a\t#b", "folder/a b (1)", "\ufeffa"]
)


@given(st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=6))
def test_any_ids_read_back_as_written_whatever_the_reasons(tmp_path_factory, reasons):
    path = tmp_path_factory.mktemp("list") / "exclude.txt"
    write_exclusions(path, reasons)
    assert read_exclusions(path) == set(reasons)


def test_a_list_written_by_hand(tmp_path):
    path = tmp_path / "exclude.txt"
    path.write_bytes(
        b"\xef\xbb\xbf# these are bad\r\n\r\nscan_1\r\n  scan 2  # blurred # very\r\nscan #3\r\n   # scan_4\r\n"
        b"scan_5\t# a tab will do\r\nscan_1\r\nlast"
    )
    assert read_exclusions(path) == {"scan_1", "scan 2", "scan #3", "scan_5", "last"}


def test_the_file_says_why_and_keeps_the_order(tmp_path):
    path = tmp_path / "exclude.txt"
    write_exclusions(path, {"b": "the same picture\nas a", "a": ""})
    assert path.read_text().splitlines()[-2:] == ["b  # the same picture as a", "a"]


def test_what_is_no_list_is_answered(tmp_path):
    with pytest.raises(DataError, match=r"no such list.*--exclude"):
        read_exclusions(tmp_path / "nowhere.txt")
    with pytest.raises(DataError, match="cannot be read"):
        read_exclusions(tmp_path)
    (tmp_path / "utf16.txt").write_text("a", encoding="utf-16")
    with pytest.raises(DataError, match="expected UTF-8"):
        read_exclusions(tmp_path / "utf16.txt")


def test_a_place_that_cannot_be_written_is_answered(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_exclusions(tmp_path / "file" / "exclude.txt", {"a": ""})
