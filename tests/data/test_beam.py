"""A Beam pipeline writes the same records as the processes of one machine."""

import importlib.util
import subprocess
import sys

import pytest

from tests.data.test_conversion import content_of, drawn, recording, stop_after
from ustoolkit.cli import main
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.readers.entry import Entry, Refused
from ustoolkit.data.records import Records, write_records
from ustoolkit.data.records.beam import beam_engine
from ustoolkit.errors import RecordsError
from ustoolkit.recipe import DataSetSettings

SETTINGS = DataSetSettings()
needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None, reason="Apache Beam is not installed (pip install -e '.[beam]')"
)


def convert(entries, out, **changes):
    return write_records(entries, out, SETTINGS, workers=1, images_a_shard=4, **changes)


@needs_beam
def test_the_records_are_the_same_to_the_byte(tmp_path, phantom_folder):
    entries = open_data_set(phantom_folder, SETTINGS)[:10]
    entries.insert(3, Entry("bad", Refused("bad.png: the image is damaged.")))
    here = convert(entries, tmp_path / "here")
    by_beam = convert(entries, tmp_path / "beam", engine=beam_engine(["--runner", "DirectRunner"]))
    assert by_beam.digest == here.digest
    assert content_of(by_beam.folder) == content_of(here.folder)
    assert len(here.shards) == 3


@needs_beam
def test_it_goes_on_with_what_another_engine_left(tmp_path):
    entries = drawn(11)
    with pytest.raises(KeyboardInterrupt):
        convert(entries, tmp_path / "set", engine=stop_after(1))
    said = []
    made = convert(entries, tmp_path / "set", engine=beam_engine(), tell=said.append)
    assert "1 of 3 shards are kept" in said[0]
    assert content_of(made.folder) == content_of(convert(entries, tmp_path / "plain").folder)


@needs_beam
def test_the_command_runs_a_pipeline_with_the_runners_options(tmp_path, phantom_folder, capfd):
    plain, piped = tmp_path / "plain", tmp_path / "piped"
    assert main(["records", str(phantom_folder), "--out", str(plain)]) == 0
    processes = ["--", "--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]
    for options in (["--runner", "DirectRunner"], processes):
        command = ["records", str(phantom_folder), "--out", str(piped), "--overwrite", "--engine", "beam"]
        assert main([*command, *options]) == 0
        assert Records(piped).digest == Records(plain).digest
    assert "30 images" in capfd.readouterr().out


@needs_beam
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--worker", "3"], "knows the option --worker"),
        (["stray"], "knows the option stray"),
        (["--direct_num_workers", "two"], "argument --direct_num_workers: invalid int value: 'two'"),
    ],
)
def test_an_option_that_is_wrong_is_named(flags, message):
    with pytest.raises(RecordsError, match=message):
        beam_engine(flags)


@needs_beam
def test_a_runner_that_is_not_there_is_named_and_finished_shards_are_kept(tmp_path):
    entries = drawn(8)
    with pytest.raises(KeyboardInterrupt):
        convert(entries, tmp_path / "set", engine=stop_after(1))
    with pytest.raises(RecordsError, match="pipeline failed: Unexpected pipeline runner: Nobody"):
        convert(entries, tmp_path / "set", engine=beam_engine(["--runner", "Nobody"]))
    left = []
    convert(entries, tmp_path / "set", engine=recording(left))
    assert left == ["records-00001-of-00002.tfrecord"]


@needs_beam
def test_workers_are_not_counted_twice(tmp_path, phantom_folder, capsys):
    command = ["records", str(phantom_folder), "--out", str(tmp_path / "set"), "--engine", "beam", "--workers", "2"]
    assert main(command) == 2
    assert "--direct_num_workers 2" in capsys.readouterr().err


def test_a_runners_option_without_the_engine_is_unknown(tmp_path, phantom_folder, capsys):
    with pytest.raises(SystemExit):
        main(["records", str(phantom_folder), "--out", str(tmp_path / "set"), "--runner", "DirectRunner"])
    assert "unrecognized arguments: --runner DirectRunner" in capsys.readouterr().err


def test_where_beam_is_not_installed_it_is_said_how_to_install_it(tmp_path):
    script = (
        "import sys; sys.modules['apache_beam'] = None\n"
        "from ustoolkit.cli import main\n"
        "sys.exit(main(['records', sys.argv[1], '--out', sys.argv[2], '--engine', 'beam']))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(tmp_path / "set")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "pip install 'ustoolkit[beam]'" in ran.stderr
    assert not (tmp_path / "set").exists()
