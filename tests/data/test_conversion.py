"""Conversion gives the same bytes however it is run, goes on after an interruption, and holds one image at a time."""

import dataclasses
import functools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustoolkit.cli import main
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.readers.entry import Entry, FileLoader, Refused
from ustoolkit.data.records import Records, write_records
from ustoolkit.data.records.identity import entries_digest
from ustoolkit.data.records.shard import ShardTask, convert_shard
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, OutputError, RecordsError
from ustoolkit.recipe import DataSetSettings

SETTINGS = DataSetSettings()


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Loads an image of its number."""

    number: int

    def __call__(self):
        random = np.random.default_rng(self.number)
        image = random.integers(0, 256, (9, 12, 1), np.uint8)
        process = {"process": os.getpid(), "tensorflow": "tensorflow" in sys.modules} if self.number < 0 else {}
        return Sample(
            f"{self.number:03}", image, (image[..., 0] > 128) * np.uint8(1), "benign", "p", attributes=process
        )


@dataclasses.dataclass(frozen=True)
class Spying:
    """Loads an image whose attributes tell of the process that loaded it."""

    number: int

    def __call__(self):
        seen = {"process": os.getpid(), "tensorflow": "tensorflow" in sys.modules}
        return dataclasses.replace(Drawn(self.number)(), attributes=seen)


@dataclasses.dataclass(frozen=True)
class Stuck:
    """Never answers, until it is let go."""

    number: int
    sign: str
    let_go: str

    def __call__(self):
        Path(self.sign).touch()
        while not Path(self.let_go).exists():
            time.sleep(0.02)
        return Drawn(self.number)()


@dataclasses.dataclass(frozen=True)
class Deadly:
    """Ends the process that loads it, as the system does where memory is short, until it is spared."""

    number: int
    spared: str

    def __call__(self):
        if not Path(self.spared).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return Drawn(self.number)()


def drawn(count):
    return [Entry(f"{number:03}", Drawn(number)) for number in range(count)]


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def convert(entries, out, workers=1, **changes):
    return write_records(entries, out, SETTINGS, workers, images_a_shard=2, **changes)


def stop_after(count):
    """An engine that is interrupted when it has written so many shards."""

    def run(tasks):
        for task in tasks[:count]:
            convert_shard(task)
            yield
        raise KeyboardInterrupt

    return run


def recording(names):
    """An engine that says which shards it was given."""

    def run(tasks):
        for task in tasks:
            names.append(task.name)
            convert_shard(task)
            yield

    return run


def shard_name(number, count):
    return f"records-{number:05}-of-{count:05}.tfrecord"


# --- the same bytes ---


@pytest.fixture(scope="module")
def phantoms(phantom_folder):
    return open_data_set(phantom_folder, SETTINGS)[:11]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, phantoms):
    return content_of(convert(phantoms, tmp_path_factory.mktemp("plain") / "set").folder)


@pytest.mark.parametrize("workers", [2, 3])
def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path, phantoms, plain, workers):
    made = convert(phantoms, tmp_path / "set", workers)
    assert [path.name for path in made.shards] == [shard_name(number, 6) for number in range(6)]
    assert content_of(made.folder) == plain


@pytest.mark.parametrize("finished", [0, 1, 4, 6])
def test_bytes_do_not_depend_on_interruptions(tmp_path, phantoms, plain, finished):
    with pytest.raises(KeyboardInterrupt):
        convert(phantoms, tmp_path / "set", engine=stop_after(finished))
    assert not (tmp_path / "set").exists()
    assert content_of(convert(phantoms, tmp_path / "set").folder) == plain
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_shards_are_as_many_as_keep_all_workers_busy_and_no_smaller_than_worth_a_file(tmp_path):
    made = {count: write_records(drawn(count), tmp_path / str(count), SETTINGS) for count in (15, 17)}
    assert [len(records.shards) for records in made.values()] == [1, 2]
    planned = []

    def count_and_stop(tasks):
        planned.extend(tasks)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(drawn(1100), tmp_path / "1100", SETTINGS, engine=count_and_stop)
    assert len(planned) == 65


def test_workers_import_no_tensorflow_and_are_other_processes(tmp_path):
    entries = [Entry(f"{number:03}", Spying(number)) for number in range(4)]
    seen = [sample.attributes for sample in convert(entries, tmp_path / "set", workers=2).read()]
    assert not any(item["tensorflow"] for item in seen)
    assert os.getpid() not in {item["process"] for item in seen}


# --- going on ---


def test_an_interrupted_conversion_goes_on_with_the_shards_that_are_left(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        convert(drawn(9), tmp_path / "set", engine=stop_after(3))
    done, said = [], []
    convert(drawn(9), tmp_path / "set", engine=recording(done), tell=said.append)
    assert done == [shard_name(number, 5) for number in (3, 4)]
    assert said == [f"{tmp_path / 'set'}: going on with an interrupted conversion: 3 of 5 shards are kept."]


def test_nothing_is_said_where_nothing_was_interrupted(tmp_path):
    convert(drawn(3), tmp_path / "set", tell=pytest.fail)
    convert(drawn(3), tmp_path / "set", overwrite=True, tell=pytest.fail)


def _convert_until_killed(entries, out):
    convert(entries, out, workers=2)


def test_a_killed_conversion_goes_on_and_its_workers_are_gone(tmp_path):
    sign, let_go, out = tmp_path / "sign", tmp_path / "let_go", tmp_path / "set"
    entries = drawn(13)
    entries[9] = Entry("009", Stuck(9, str(sign), str(let_go)))
    killed = multiprocessing.get_context("spawn").Process(target=_convert_until_killed, args=(entries, out))
    killed.start()
    sidecars = tmp_path / ".set.partial" / "sidecars"
    assert _soon(lambda: sign.exists() and len(list(sidecars.glob("*.json"))) == 6), "it never came so far"
    workers = _children(killed.pid)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert workers
    assert _soon(lambda: not any(map(_is_alive, workers)))
    assert not out.exists()
    kept = {path.name: path.stat().st_ino for path in (tmp_path / ".set.partial" / "records").glob("*.tfrecord")}
    assert len(kept) == 6

    let_go.touch()
    said = []
    made = convert(entries, out, workers=2, tell=said.append)
    assert "6 of 7 shards are kept" in said[0]
    assert {name: (out / name).stat().st_ino for name in kept} == kept
    assert content_of(made.folder) == content_of(convert(drawn(13), tmp_path / "uninterrupted").folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["let_go", "set", "sign", "uninterrupted"]


def _soon(condition):
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def _children(process):
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for children in tasks for child in children.read_text().split()]


def _is_alive(process):
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_a_worker_that_the_system_ends_is_answered_and_what_was_finished_is_kept(tmp_path):
    entries = drawn(8)
    entries[7] = Entry("007", Deadly(7, str(tmp_path / "spared")))
    with pytest.raises(RecordsError, match=r"worker processes was ended by the system.*--workers 1;.*goes on"):
        convert(entries, tmp_path / "set", workers=2)
    (tmp_path / "spared").touch()
    said = []
    made = convert(entries, tmp_path / "set", tell=said.append)
    assert "shards are kept" in said[0]
    assert content_of(made.folder) == content_of(convert(drawn(8), tmp_path / "other").folder)


@pytest.fixture
def interrupted(tmp_path, phantom_folder):
    """A data set of its own, of whose three shards two are written."""
    shutil.copytree(phantom_folder, tmp_path / "data")
    entries = open_data_set(tmp_path / "data", SETTINGS)[:6]
    with pytest.raises(KeyboardInterrupt):
        convert(entries, tmp_path / "set", engine=stop_after(2))
    return tmp_path, entries


def redone(folder, entries, **changes):
    """The numbers of the shards that are written anew, and what is said."""
    done, said = [], []
    made = convert(entries, folder / "set", engine=recording(done), tell=said.append, **changes)
    made.verify()
    expected = convert(entries, folder / "expected")
    assert content_of(made.folder) == content_of(expected.folder)
    return [int(name[8:13]) for name in done], said[0] if said else ""


def test_a_shard_whose_images_have_changed_is_made_again(interrupted):
    folder, entries = interrupted
    image = next((folder / "data" / "images").glob(f"{entries[1].source_id}.*"))
    image.write_bytes(next((folder / "data" / "images").glob(f"{entries[5].source_id}.*")).read_bytes())
    numbers, said = redone(folder, entries)
    assert numbers == [0, 2]
    assert "1 of 3 shards are kept. 1 are made again" in said


def test_a_shard_whose_mask_is_gone_is_made_again(interrupted):
    folder, entries = interrupted
    next((folder / "data" / "masks").glob(f"{entries[2].source_id}.*")).unlink()
    assert redone(folder, entries)[0] == [1, 2]


@pytest.mark.parametrize("suffix", ["", ".json", ".fingerprints"])
@pytest.mark.parametrize("damage", [b"", b"more", None])
def test_a_shard_that_is_damaged_is_made_again(interrupted, suffix, damage):
    folder, entries = interrupted
    place = folder / ".set.partial" / ("sidecars" if suffix else "records")
    path = place / (shard_name(1, 3) + suffix)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + damage if damage else b"")
    assert redone(folder, entries)[0] == [1, 2]


def test_a_shard_of_the_right_size_with_another_byte_is_made_again(interrupted):
    folder, entries = interrupted
    path = folder / ".set.partial" / "records" / shard_name(0, 3)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert redone(folder, entries)[0] == [0, 2]


def test_another_list_of_images_starts_afresh_and_says_so(interrupted):
    folder, entries = interrupted
    numbers, said = redone(folder, entries[1:])
    assert numbers == [0, 1, 2]
    assert "other images or by other settings was there; this starts afresh" in said


def test_other_settings_start_afresh(interrupted):
    folder, entries = interrupted
    said = []
    changed = SETTINGS.model_copy(update={"labels": ("malignant", "benign")})
    made = write_records(entries, folder / "set", changed, images_a_shard=2, tell=said.append)
    assert "starts afresh" in said[0]
    expected = write_records(entries, folder / "expected", changed, images_a_shard=2)
    assert content_of(made.folder) == content_of(expected.folder)


def test_a_partial_folder_with_a_strangers_files_does_no_harm(interrupted):
    folder, entries = interrupted
    (folder / ".set.partial" / "records" / ".records.tfrecord.half").write_bytes(b"half")
    (folder / ".set.partial" / "records" / "old.tfrecord").write_bytes(b"old")
    assert redone(folder, entries)[0] == [2]


# --- one at a time ---


def test_a_second_conversion_into_the_same_folder_is_refused(tmp_path):
    def meet_another(tasks):
        with pytest.raises(OutputError, match="another conversion is writing there"):
            convert(drawn(5), tmp_path / "set")
        return recording([])(tasks)

    convert(drawn(3), tmp_path / "set", engine=meet_another)
    assert len(Records(tmp_path / "set").index) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_conversion_leaves_other_folders_conversions_alone(tmp_path):
    def meet_another(tasks):
        convert(drawn(5), tmp_path / "other")
        return recording([])(tasks)

    convert(drawn(3), tmp_path / "set", engine=meet_another)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "set"]


def test_a_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert convert(drawn(3), tmp_path / "link").folder == tmp_path / "link"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "manifest.json").exists()


def test_what_someone_else_puts_there_meanwhile_is_not_replaced(tmp_path):
    def meet_another(tasks):
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "thesis.txt").write_text("years of work")
        return recording([])(tasks)

    with pytest.raises(OutputError, match="the folder is not empty"):
        convert(drawn(3), tmp_path / "set", engine=meet_another)
    with pytest.raises(OutputError, match=r"only replaces a folder that holds manifest\.json"):
        convert(drawn(3), tmp_path / "set", overwrite=True)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["thesis.txt"]


# --- what is left out ---


def test_the_command_leaves_out_a_list_and_warns_of_ids_that_no_image_has(tmp_path, phantom_folder, capsys):
    (tmp_path / "list.txt").write_text("phantom_0003  # blurred\nphantom_9999\n")
    command = ["records", str(phantom_folder), "--out", str(tmp_path / "set"), "--json"]
    assert main([*command, "--exclude", str(tmp_path / "list.txt")]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["excluded"] == ["phantom_0003"]
    assert "to leave out, but not there: phantom_9999." in err
    assert "phantom_0003" not in {row.source_id for row in Records(tmp_path / "set").index}
    assert main([*command, "--overwrite", "--exclude", str(tmp_path / "none.txt")]) == 2
    assert "none.txt: no such list" in capsys.readouterr().err


def test_excluded_images_are_left_out_and_listed(tmp_path):
    made = convert(drawn(5), tmp_path / "set", excluded={"003", "000", "999"})
    assert [row.source_id for row in made.index] == ["001", "002", "004"]
    assert made.manifest["excluded"] == ["000", "003"]


def test_where_all_images_are_excluded_it_is_said(tmp_path):
    with pytest.raises(DataError, match="all 2 images are on the list"):
        convert(drawn(2), tmp_path / "set", excluded={"000", "001"})
    assert list(tmp_path.iterdir()) == []


# --- doubles ---


@pytest.mark.parametrize("workers", [1, 2])
def test_doubles_are_grouped_under_their_first_id_across_shards(tmp_path, phantoms, workers):
    twin = Entry("zz_copy", Renamed(phantoms[3], "zz_copy"))
    made = convert([*phantoms[:3], Entry("bad", Refused("bad.")), *phantoms[3:6], twin], tmp_path / "set", workers)
    groups = {row.source_id: row.duplicate_group for row in made.index}
    first = phantoms[3].source_id
    assert groups == {row.source_id: first if row.source_id in (first, "zz_copy") else "" for row in made.index}


def test_doubles_are_found_among_shards_that_were_kept(tmp_path):
    entries = [*drawn(4), Entry("zz", Renamed(Entry("001", Drawn(1)), "zz"))]
    with pytest.raises(KeyboardInterrupt):
        convert(entries, tmp_path / "set", engine=stop_after(2))
    made = convert(entries, tmp_path / "set")
    assert [row.duplicate_group for row in made.index] == ["", "001", "", "", "001"]


@dataclasses.dataclass(frozen=True)
class Renamed:
    """Loads an image under another name."""

    entry: Entry
    name: str

    def __call__(self):
        return dataclasses.replace(self.entry.load(), source_id=self.name)


# --- memory ---


def test_a_worker_takes_no_more_memory_for_more_images(tmp_path):
    """Of what it reads and writes it holds one image at a time."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.data.test_conversion import ShardTask, convert_shard, drawn\n"
        "folder = Path(sys.argv[1])\n"
        "for count in (200, 4000):\n"
        "    for start in range(0, count, 100):\n"
        "        convert_shard(ShardTask(f'{start}', drawn(count)[start : start + 100], {}, folder, folder))\n"
        "    status = Path('/proc/self/status').read_text().split()\n"
        "    print(int(status[status.index('VmHWM:') + 1]) // 1024)\n"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True
    )
    few, many = map(int, ran.stdout.split())
    assert many - few < 20
    assert many < 300


# --- what tells one conversion from another ---


def loader(**changes):
    known = {"source_id": "a", "image": Path("a.png"), "masks": (), "num_classes": 2}
    return FileLoader(**{**known, **changes})


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@given(values, values)
@settings(deadline=None, max_examples=200)
def test_loaders_that_were_told_something_else_have_another_digest(one, other):
    first, second = (entries_digest([Entry("a", loader(attributes=(("told", value),)))]) for value in (one, other))
    assert (first == second) == (repr(one) == repr(other))


@pytest.mark.parametrize(
    "other",
    [
        [Entry("b", loader())],
        [Entry("a", loader(masks=(Path("a_mask.png"),)))],
        [Entry("a", loader(label="benign"))],
        [Entry("a", functools.partial(loader, label="benign"))],
        [Entry("a", loader(attributes=(("box", np.zeros(3)),)))],
        [Entry("a", loader(attributes=(("box", np.zeros(3, np.uint8)),)))],
        [Entry("a", loader(attributes=(("settings", SETTINGS),)))],
        [Entry("a", loader(attributes=(("settings", SETTINGS.model_copy(update={"line_width": 3})),)))],
        [Entry("a", Refused("a"))],
        [Entry("a", loader()), Entry("a", loader())],
        [],
    ],
)
def test_every_part_of_an_entry_counts(other):
    assert entries_digest(other) != entries_digest([Entry("a", loader())])
    assert entries_digest(other) == entries_digest(other)


def test_a_file_that_changes_changes_the_digest_of_its_loader(tmp_path):
    path = tmp_path / "a.png"
    digests = [entries_digest([Entry("a", loader(image=path))])]
    for content in (b"", b"a", b"b"):
        path.write_bytes(content)
        os.utime(path, ns=(0, len(digests)))
        digests.append(entries_digest([Entry("a", loader(image=path))]))
    assert len(set(digests)) == 4
    assert entries_digest([Entry("a", loader(image=path))]) == digests[-1]


def test_what_cannot_be_told_apart_is_never_taken_for_the_same():
    entry = Entry("a", lambda: None)
    assert entries_digest([entry]) != entries_digest([entry])


def test_the_digest_is_the_same_in_every_process():
    script = (
        "from tests.data.test_conversion import Entry, SETTINGS, entries_digest, loader\n"
        "told = (('set', frozenset('abcdefgh')), ('settings', SETTINGS))\n"
        "print(entries_digest([Entry('a', loader(attributes=told))]))\n"
    )
    found = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        root = Path(__file__).parents[2]
        ran = subprocess.run(
            [sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True, check=True
        )
        found.add(ran.stdout)
    assert len(found) == 1


def test_a_task_names_its_files_beside_each_other(tmp_path):
    task = ShardTask("a.tfrecord", drawn(2), {}, tmp_path, tmp_path)
    convert_shard(task)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.tfrecord",
        "a.tfrecord.fingerprints",
        "a.tfrecord.json",
    ]


@pytest.mark.data
def test_real_images_come_back_pixel_for_pixel_from_any_number_of_workers(real_data, tmp_path):
    entries = open_data_set(real_data / "busbra", SETTINGS)[:40]
    made = write_records(entries, tmp_path / "one", SETTINGS, workers=1)
    assert content_of(write_records(entries, tmp_path / "two", SETTINGS, workers=2).folder) == content_of(made.folder)
    for entry, stored in zip(entries, made.read(), strict=True):
        original = entry.load()
        np.testing.assert_array_equal(stored.image, original.image)
        np.testing.assert_array_equal(stored.mask, original.mask)
        assert (stored.source_id, stored.patient_id, stored.label) == (
            original.source_id,
            original.patient_id,
            original.label,
        )
