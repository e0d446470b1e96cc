"""Files are found once, links included, and no annotation leads out of its folder."""

import pytest

from ustoolkit.data.file_tree import find_files, locate
from ustoolkit.errors import DataError


@pytest.fixture
def root(tmp_path):
    for name in ["set/json/a.json", "set/images/x.png", "set/json/y.PNG", "set/z.png", "secret.png"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "set"


def names(root, suffixes=(".png",)):
    return [path.relative_to(root).as_posix() for path in find_files(root, suffixes)]


def test_files_are_found_in_sub_folders_by_suffix_in_any_case(root):
    assert names(root) == ["images/x.png", "json/y.PNG", "z.png"]
    assert names(root, (".json",)) == ["json/a.json"]
    assert names(root, ()) == []


def test_hidden_files_and_folders_are_left_out(root):
    (root / ".trash").mkdir()
    (root / ".trash/x.png").write_bytes(b"")
    (root / ".x.png").write_bytes(b"")
    (root / "folder.png").mkdir()
    assert names(root) == ["images/x.png", "json/y.PNG", "z.png"]


def test_a_linked_folder_is_followed_and_read_once(root, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/o.png").write_bytes(b"")
    (root / "link").symlink_to(tmp_path / "other")
    (root / "second").symlink_to(tmp_path / "other")
    assert names(root) == ["images/x.png", "json/y.PNG", "link/o.png", "z.png"]


def test_a_link_in_a_circle_is_answered(root):
    (root / "images/back").symlink_to(root)
    with pytest.raises(DataError, match="leads back to a folder that it lies in"):
        find_files(root, (".png",))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("y.PNG", "json/y.PNG"),
        ("../images/x.png", "images/x.png"),
        ("..\\images\\x.png", "images/x.png"),
        ("./../images/../z.png", "z.png"),
        ("../set/z.png", None),
        ("C:\\data\\y.PNG", "json/y.PNG"),
        ("/home/someone/y.PNG", "json/y.PNG"),
        ("\\\\server\\share\\y.PNG", "json/y.PNG"),
        ("C:y.PNG", "json/y.PNG"),
        ("elsewhere/y.PNG", "json/y.PNG"),
        ("images/x.png", None),
    ],
)
def test_an_image_is_located_as_any_system_spells_it(root, name, expected):
    if expected is None:
        with pytest.raises(DataError, match=r"^a\.json: there is no image"):
            locate(root, root / "json", name, "a.json")
    else:
        assert locate(root, root / "json", name, "a.json") == root / expected


@pytest.mark.parametrize("name", ["../../secret.png", "..\\..\\secret.png", "x/../../../secret.png", "../.."])
def test_a_path_that_leads_out_is_refused(root, name):
    with pytest.raises(DataError, match=r"^a\.json: the image path .* leads out of"):
        locate(root, root / "json", name, "a.json")


@pytest.mark.parametrize("name", ["/etc/hostname", "C:\\..\\..\\secret.png", "\\..\\secret.png"])
def test_an_absolute_path_is_not_followed(root, name):
    with pytest.raises(DataError, match="there is no image"):
        locate(root, root / "json", name, "a.json")


@pytest.mark.parametrize("name", ["", " ", "a\0.png", "é" * 300, "\udc80.png", ".", "..", "images", "x" * 100_000])
def test_what_names_no_file_is_answered_in_words_that_can_be_printed(root, name):
    with pytest.raises(DataError, match=r"^z\.json: ") as caught:
        locate(root, root, name, "z.json")
    str(caught.value).encode()
    assert len(str(caught.value)) < 500 + len(str(root))


def test_a_root_with_dots_in_its_path_is_no_way_out(root):
    dotted = root / "json" / ".."
    assert locate(dotted, dotted / "json", "../images/x.png", "a.json").samefile(root / "images/x.png")
