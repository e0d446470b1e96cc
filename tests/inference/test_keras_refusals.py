"""Keras files that are damaged or mean harm: nothing of them runs, and each is refused in words."""

import copy
import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tf_keras

from tests.inference.keras_files import (
    config_of,
    mutated_bytes,
    mutated_config,
    plain_network,
    saved,
    stored,
    weights_of,
    with_changes,
    write_ours,
)
from tests.models.networks import images_of
from ustoolkit.errors import RunError
from ustoolkit.inference.keras_segmenter import KerasSegmenter
from ustoolkit.recipe import dump_toml, load_recipe


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A small file that is taken."""
    return saved(plain_network(), tmp_path_factory.mktemp("keras") / "plain.keras")


def attacks(marker):
    """Configurations of a layer, by what they try; each would leave the marker if anything of it were called."""
    write = f"open({str(marker)!r}, 'w').close()"
    function = {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "eval"}
    shell = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    registered = {"module": "builtins", "class_name": "function", "config": "evil>mark", "registered_name": "evil>mark"}
    touch = f"touch {marker}"

    def layer(name, module="keras.layers", registered_name=None, **settings):
        return {
            "module": module,
            "class_name": name,
            "config": {"name": "evil", **settings},
            "registered_name": registered_name,
        }

    return {
        "a module": layer("system", "os", command=touch),
        "a process": layer("Popen", "subprocess", args=["touch", str(marker)]),
        "a module under a known name": layer("Conv2D", "evil_module", filters=1, kernel_size=1),
        "a registered class": layer("Conv2D", registered_name="evil>Mark", filters=1, kernel_size=1),
        "a registered class of its own": layer("Mark", "custom", registered_name="evil>Mark"),
        "ours by another name": layer("PixelNormalization", "ustoolkit.layers.preprocessing", "evil>Mark"),
        "ours elsewhere": layer("PixelNormalization", "evil_module", "ustoolkit>PixelNormalization"),
        "a lambda": layer("Lambda", function={"class_name": "__lambda__", "config": {"value": ["", None, None]}}),
        "a lambda of a function": layer("Lambda", function=function, arguments={"source": write}),
        "unsafe mode": layer("Lambda", function={**function, "module": "keras.config", "config": "enable_unsafe"}),
        "an operation": layer("TFOpLambda", "keras.layers", function="io.write_file"),
        "a vocabulary": layer("StringLookup", vocabulary="/etc/passwd"),
        "an activation": layer("Activation", activation=shell),
        "a registered activation": layer("Activation", activation=registered),
        "a registered activation by name": layer("Activation", activation="evil>mark"),
        "an activation within": layer("Conv2D", filters=1, kernel_size=1, activation=function),
        "a layer as a setting": layer("Conv2D", filters=layer("system", "os", command=touch), kernel_size=1),
        "a setting of no layer": layer("Conv2D", filters=1, kernel_size=1, evil=shell),
        "a wrapper": layer("TimeDistributed", layer=layer("system", "os", command=touch)),
    }


class Evil:
    """Leaves a marker when it is made or called."""

    marker: Path

    def __init__(self, *arguments, **named):
        self.marker.touch()

    @classmethod
    def from_config(cls, config):
        return cls()


def mark(*arguments):
    Evil.marker.touch()


@pytest.mark.parametrize("attack", attacks(Path("marker")))
@pytest.mark.parametrize("nested", [False, True])
def test_what_a_file_names_is_not_run(attack, nested, plain, tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    monkeypatch.setattr(Evil, "marker", marker, raising=False)
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = config_of(plain)
    evil = attacks(marker)[attack]
    if nested:
        inner = copy.deepcopy({**config, "config": {**config["config"], "name": "inner"}})
        inner["config"]["layers"].insert(1, evil)
        evil = inner
    config["config"]["layers"].insert(1, evil)
    path = with_changes(plain, tmp_path / "evil.keras", config)
    with (
        tf_keras.saving.custom_object_scope({"evil>Mark": Evil, "evil>mark": mark}),
        pytest.raises(RunError) as refused,
    ):
        KerasSegmenter(path)
    assert str(path) in str(refused.value) and "damaged" not in str(refused.value)
    assert not marker.exists() and "evil_module" not in sys.modules


@pytest.mark.parametrize("module", ["evil_module", "keras.evil_module", "keras.utils"])
def test_a_model_from_elsewhere_is_not_looked_for(module, plain, tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = config_of(plain) | {"module": module}
    for changed in (config, config | {"class_name": "get_file"}, [config], config["config"]["layers"][1], None, "a"):
        with pytest.raises(RunError, match="expected"):
            KerasSegmenter(with_changes(plain, tmp_path / "evil.keras", changed or "null"))
    assert not marker.exists() and "evil_module" not in sys.modules


def test_what_else_a_configuration_holds_is_left_alone(plain, tmp_path):
    config = config_of(plain)
    shell = {"module": "os", "class_name": "system", "config": {"command": "false"}, "registered_name": None}
    config["compile_config"] = {"optimizer": shell, "loss": shell}
    config["config"]["layers"][1]["config"]["kernel_initializer"] = shell
    config["config"]["layers"][1]["build_config"] = shell
    path = with_changes(plain, tmp_path / "model.keras", config)
    image = images_of(16, 16, 1).astype(np.uint8)
    np.testing.assert_array_equal(
        next(KerasSegmenter(path).probabilities([image])), next(KerasSegmenter(plain).probabilities([image]))
    )


def test_weights_that_are_not_in_the_file_are_refused(plain, tmp_path):
    weights = weights_of(plain)
    first = "layers/conv2d/vars/0"
    (tmp_path / "secret.bin").write_bytes(bytes(4096))

    def declared():
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            file.create_dataset(first, shape=(2**20, 2**20), dtype="f4", chunks=(1024, 1024))
        return stream.getvalue()

    def external():
        with tempfile.TemporaryDirectory() as folder:
            with h5py.File(Path(folder) / "a.h5", "w") as file:
                place = [(str(tmp_path / "secret.bin"), 0, 72)]
                file.create_dataset(first, shape=(3, 3, 1, 2), dtype="f4", external=place)
            return (Path(folder) / "a.h5").read_bytes()

    cases = {
        "larger than the file": [declared(), stored({**weights, first: np.zeros((512, 512))}, compression="gzip")],
        "kept elsewhere": [external()],
        "a link to elsewhere": [
            stored({**weights, first: h5py.ExternalLink(str(tmp_path / "secret.bin"), "/x")}),
            stored({**weights, "more": h5py.SoftLink("/layers")}),
        ],
        "no numbers": [stored({**weights, "text": np.array([b"abc"])})],
        "expected weights .* of 'conv2d": [
            stored({name: value for name, value in weights.items() if name != first}),
            stored({**weights, first: np.zeros((3, 3, 2, 1), np.float32)}),
            stored({}),
        ],
    }
    for message, contents in cases.items():
        for content in contents:
            path = with_changes(plain, tmp_path / "model.keras", model_weights_h5=content)
            with pytest.raises(RunError, match=message):
                KerasSegmenter(path)


@pytest.mark.parametrize(
    ("place", "key", "value"), [(1, "filters", 2**20), (1, "kernel_size", [2**18, 2**18]), (1, "strides", [2**21, 1])]
)
def test_a_network_larger_than_its_weights_is_refused(place, key, value, plain, tmp_path):
    config = config_of(plain)
    config["config"]["layers"][place]["config"][key] = value
    with pytest.raises(RunError, match=r"found a larger one|fit the memory|a plain value"):
        KerasSegmenter(with_changes(plain, tmp_path / "model.keras", config))


def test_zip_bombs_are_refused(plain, tmp_path):
    for name, size in {"config.json": 2**24 + 1, "model.weights.h5": 2**26}.items():
        path = tmp_path / "bomb.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for other in ("config.json", "model.weights.h5"):
                archive.writestr(other, b" " * size if other == name else b"{}")
        assert path.stat().st_size < size / 100
        with pytest.raises(RunError, match=f"bytes in {name}, found more|damaged or none"):
            KerasSegmenter(path)
    lying = bytearray(path.read_bytes())
    directory = lying.rindex(b"PK\x01\x02")
    lying[directory + 24 : directory + 28] = (1000).to_bytes(4, "little")  # the directory's word on the size
    path.write_bytes(lying)
    with pytest.raises(RunError, match="damaged or none"):
        KerasSegmenter(path)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(10_001):
            archive.writestr(str(number), b"")
    with pytest.raises(RunError, match="more than 10000 entries"):
        KerasSegmenter(path)


@pytest.fixture(scope="module")
def ours(trained_run, tmp_path_factory):
    """A file of ours, and its metadata."""
    metadata = {"classes": trained_run.classes, "inference": trained_run.inference.model_dump(mode="json")}
    path = tmp_path_factory.mktemp("ours") / "ours.keras"
    write_ours(trained_run, metadata, "", path)
    return path, metadata


def test_what_a_file_of_ours_says_of_itself_is_checked(trained_run, ours, tmp_path):
    source, metadata = ours
    recipe = trained_run.recipe
    wide = recipe.model_copy(update={"model": recipe.model.model_copy(update={"widths": (4, 8, 2**20)})})
    large = recipe.model_copy(update={"data": recipe.data.model_copy(update={"image_size": (8192, 8192)})})
    toml, about = "ustoolkit/recipe_toml", "ustoolkit/metadata_json"
    cases = [
        ("found a larger one", toml, dump_toml(wide)),
        ("sides of at most 4096", toml, dump_toml(large)),
        ("segments two classes or more, found resnet50", toml, dump_toml(load_recipe("lymph_node_resnet50"))),
        ("evil: no such setting", toml, dump_toml(recipe) + "\n[evil]\na = 1\n"),
        ("TOMLDecodeError", toml, "= ="),
        ("inference.threshold", about, json.dumps({**metadata, "inference": {"threshold": 7}})),
        ("found unet with the classes ab", about, json.dumps({**metadata, "classes": "ab"})),
        ("ValueError", about, json.dumps({**metadata, "classes": ["a", "b", "c"]})),
        ("KeyError", about, "{}"),
        ("JSONDecodeError", about, "nothing"),
        ("RecursionError", about, "[" * 100_000),
    ]
    for message, name, content in cases:
        path = with_changes(source, tmp_path / "changed.keras", **{name: content})
        with pytest.raises(RunError, match=message) as refused:
            KerasSegmenter(path)
        assert str(path) in str(refused.value)


def test_a_configuration_in_a_file_of_ours_is_not_read(ours, tmp_path):
    path = with_changes(ours[0], tmp_path / "model.keras", config_json="nothing")
    assert KerasSegmenter(path).classes == ours[1]["classes"]


def test_files_that_are_none_are_refused(plain, tmp_path):
    content = plain.read_bytes()
    cases = [b"", b"nothing", content[: len(content) // 2], content[:-30]]
    path = tmp_path / "model.keras"
    for case in cases:
        path.write_bytes(case)
        with pytest.raises(RunError, match=r"damaged or none"):
            KerasSegmenter(path)
    for name in ("config.json", "model.weights.h5"):
        with_changes(plain, path, **{name.replace(".", "_"): None})
        with pytest.raises(RunError, match=name):
            KerasSegmenter(path)
    with pytest.raises(RunError, match="damaged or none"):
        KerasSegmenter(tmp_path / "absent.keras")


@pytest.mark.parametrize("seeds", [range(40), pytest.param(range(40, 1000), marks=pytest.mark.slow)])
def test_mutations_are_taken_or_refused(seeds, plain, ours, tmp_path):
    path = tmp_path / "model.keras"
    config, outcomes = config_of(plain), []
    with zipfile.ZipFile(plain) as archive:
        weights = archive.read("model.weights.h5")
    for seed in seeds:
        generator = np.random.default_rng(seed)
        kind = seed % 4
        if kind == 0:
            path.write_bytes(mutated_bytes((plain, ours[0])[seed // 4 % 2].read_bytes(), generator))
        elif kind == 1:
            with_changes(plain, path, model_weights_h5=mutated_bytes(weights, generator))
        else:
            with_changes(plain, path, mutated_config(config, generator))
        try:
            (found,) = KerasSegmenter(path).probabilities([np.zeros((9, 9, 1), np.uint8)])
            outcomes.append(found.shape[:2] == (9, 9))
        except RunError as problem:
            outcomes.append(str(path) in str(problem))
    assert all(outcomes)
