"""Writing leaves a whole result or none; reading says what is wrong."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ustoolkit import files
from ustoolkit.errors import OutputError, RecordsError, RunError
from ustoolkit.files import (
    LOCK_FILE,
    check_writable,
    locked_folder,
    new_folder,
    put_in_place,
    read_json,
    safe_name,
    write_bytes,
    write_json,
    write_text,
)


@pytest.fixture
def below_a_file(tmp_path):
    """A path that nobody can write to, root neither."""
    (tmp_path / "file").write_text("a file, not a folder")
    return tmp_path / "file" / "out"


@pytest.fixture
def failing_rename(monkeypatch):
    def refuse(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", refuse)


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_writes_make_the_folder_and_leave_nothing_beside_the_file(tmp_path):
    write_bytes(tmp_path / "a" / "b.bin", b"\x00\xff")
    write_text(tmp_path / "a" / "c.txt", "Größe 3 × 4\n")
    assert contents(tmp_path) == ["a", "a/b.bin", "a/c.txt"]
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "a" / "c.txt").read_bytes() == "Größe 3 × 4\n".encode()


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_bytes(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "plain_folder").mkdir()
    with new_folder(tmp_path / "our_folder"):
        pass
    assert (tmp_path / "our_folder").stat().st_mode == (tmp_path / "plain_folder").stat().st_mode


def test_an_interrupted_write_leaves_no_file(tmp_path, failing_rename):
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a.txt", "new")
    assert contents(tmp_path) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path, failing_rename):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a.txt", "new")
    assert contents(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_json_that_cannot_be_said_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert contents(tmp_path) == ["a.json"]


def test_json_says_null_for_nan_at_every_depth(tmp_path):
    write_json(tmp_path / "a.json", {"list": [1.5, math.nan, (math.nan,)], "text": "Größe"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"list": [1.5, None, [None]], "text": "Größe"}
    assert "Größe" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_where_nothing_can_be_written_the_path_and_a_remedy_are_named(below_a_file):
    for write in (
        lambda: write_bytes(below_a_file, b""),
        lambda: check_writable(below_a_file),
        lambda: new_folder(below_a_file).__enter__(),
    ):
        with pytest.raises(OutputError, match=r"cannot write here .*Choose another --out") as problem:
            write()
        assert str(below_a_file) in str(problem.value)


def test_a_folder_in_the_place_of_the_file_is_an_output_error(tmp_path):
    (tmp_path / "a.txt" / "kept").mkdir(parents=True)
    with pytest.raises(OutputError):
        write_text(tmp_path / "a.txt", "new")
    assert contents(tmp_path) == ["a.txt", "a.txt/kept"]


def test_check_writable_makes_the_folder_and_leaves_it_empty(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert contents(tmp_path) == ["a", "a/b"]


def test_new_folder_appears_only_when_it_is_whole(tmp_path):
    out = tmp_path / "parent" / "out"
    with new_folder(out) as folder:
        (folder / "a.txt").write_text("new")
        assert not out.exists()
    assert contents(tmp_path) == ["parent", "parent/out", "parent/out/a.txt"]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing_of_a_new_folder(tmp_path, stop):
    with pytest.raises(stop), new_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("half")
        raise stop
    assert contents(tmp_path) == []


def test_an_exception_leaves_the_folder_that_was_to_be_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    with pytest.raises(ValueError), new_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "a.txt").write_text("half")
        raise ValueError
    assert contents(tmp_path) == ["out", "out/old.txt"]


def test_a_folder_that_is_not_empty_is_replaced_only_when_asked(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    with pytest.raises(OutputError, match=r"not empty.*--overwrite"), new_folder(tmp_path / "out"):
        pytest.fail("the block must not be entered")
    assert contents(tmp_path) == ["out", "out/old.txt"]
    with new_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "new.txt").write_text("new")
    assert contents(tmp_path) == ["out", "out/new.txt"]


def test_an_empty_folder_may_be_filled_without_asking(tmp_path):
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", owned_by="manifest.json") as folder:
        (folder / "new.txt").write_text("new")
    assert contents(tmp_path) == ["out", "out/new.txt"]


def test_overwrite_spares_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with (
        pytest.raises(OutputError, match=r"only replaces a folder that holds manifest\.json"),
        new_folder(tmp_path / "thesis", overwrite=True, owned_by="manifest.json"),
    ):
        pytest.fail("the block must not be entered")
    assert contents(tmp_path) == ["thesis", "thesis/chapter.txt"]
    (tmp_path / "thesis" / "manifest.json").write_text("{}")
    with new_folder(tmp_path / "thesis", overwrite=True, owned_by="manifest.json"):
        pass
    assert contents(tmp_path) == ["thesis"]


def test_a_file_is_never_replaced_by_a_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    with (
        pytest.raises(OutputError, match="expected a folder to write to, found a file"),
        new_folder(tmp_path / "out", overwrite=True),
    ):
        pytest.fail("the block must not be entered")
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.parametrize("error", [RecordsError, RunError])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no such file"),
        (b'{"a": ', "expected JSON"),
        (b"", "expected JSON"),
        (b"\xff\xfe{}", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
    ],
)
def test_read_json_names_the_file_the_problem_and_the_remedy(tmp_path, error, content, expected):
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=expected) as problem:
        read_json(path, error, "Convert again.")
    assert str(problem.value).startswith(str(path))
    assert str(problem.value).endswith("Convert again.")


def test_put_in_place_replaces_a_folder_and_leaves_nothing_beside_it(tmp_path):
    for name in ("new", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text(name)
    put_in_place(tmp_path / "new", tmp_path / "out")
    assert contents(tmp_path) == ["out", "out/new.txt"]


def test_what_cannot_be_put_in_place_leaves_the_old_folder(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    with pytest.raises(OutputError):
        put_in_place(tmp_path / "missing", tmp_path / "out")
    assert contents(tmp_path) == ["out", "out/old.txt"]


def test_a_folder_is_held_by_one_at_a_time_and_free_afterwards(tmp_path):
    for _ in range(2):
        with locked_folder(tmp_path / "a", "taken"):
            with pytest.raises(OutputError, match="taken"), locked_folder(tmp_path / "a", "taken"):
                pytest.fail("the block must not be entered")
            with locked_folder(tmp_path / "b", "taken"):
                pass
    with pytest.raises(ValueError), locked_folder(tmp_path / "a", "taken"):
        raise ValueError
    with locked_folder(tmp_path / "a", "taken"):
        pass


def test_a_held_folder_may_be_removed_and_held_anew(tmp_path):
    with locked_folder(tmp_path / "a", "taken"):
        (tmp_path / "a" / LOCK_FILE).unlink()
        (tmp_path / "a").rmdir()
        with locked_folder(tmp_path / "a", "taken"):
            assert (tmp_path / "a" / LOCK_FILE).exists()


def test_another_process_is_refused_until_the_holder_is_killed(tmp_path):
    script = "import sys\nfrom ustoolkit.files import locked_folder\nwith locked_folder(sys.argv[1], 'taken'):\n    {}"
    hold = ("from pathlib import Path\n" + script).format("print('held', flush=True); sys.stdin.read()")
    hold = hold.replace("sys.argv[1]", "Path(sys.argv[1])")
    command = [sys.executable, "-c", hold, str(tmp_path / "a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="taken"), locked_folder(tmp_path / "a", "taken"):
            pytest.fail("the block must not be entered")
        holder.kill()
    with locked_folder(tmp_path / "a", "taken"):
        pass


def test_a_folder_that_cannot_be_made_cannot_be_held(below_a_file):
    with pytest.raises(OutputError, match="cannot write here"), locked_folder(below_a_file, "taken"):
        pytest.fail("the block must not be entered")


def test_read_json_of_a_folder_or_below_a_file_is_said_too(tmp_path, below_a_file):
    for path in (tmp_path, below_a_file):
        with pytest.raises(RecordsError, match=str(path)):
            read_json(path, RecordsError, "Check the path.")


def test_read_json_returns_what_was_written(tmp_path):
    content = {"name": "Läsion", "values": [1, 2.5, None, True]}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json", RecordsError, "") == content


def test_safe_names_hold_no_separator():
    assert safe_name("benign/case 1\\a") == "benign__case 1__a"
    assert os.sep not in safe_name("a/b/c")


def test_umask_is_left_as_it_was(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a.txt", "")
        assert os.umask(0o027) == 0o027
        assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)
