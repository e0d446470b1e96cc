"""Keras files of others: networks to save, and copies with something exchanged."""

import copy
import io
import json
import zipfile

import h5py
import numpy as np
import tf_keras

from tests.models.networks import randomized
from ustoolkit.export.keras_file import KerasWriter
from ustoolkit.inference.graph import segmentation_graph


def keras_of(version):
    """tf_keras, or Keras 3."""
    if version == 2:
        return tf_keras
    import keras

    return keras


def network(keras, outputs=1, ending="sigmoid", channels=3, size=(16, 24)):
    """Branches that join, a layer called twice, a model within, and layers of one class that only their order tells."""
    layers = keras.layers
    image = layers.Input((*size, channels))
    scaled = layers.Rescaling(1 / 255)(image)
    first = layers.Conv2D(4, 3, padding="same", activation="relu", name="b")(scaled)
    second = layers.Conv2D(4, 3, padding="same", name="a")(scaled)
    shared = layers.Conv2D(4, 3, padding="same", activation="elu", name="shared")
    inner_image = layers.Input((*size, 4))
    inner = layers.LeakyReLU()(layers.BatchNormalization()(layers.Conv2D(4, 1)(inner_image)))
    inner = keras.Model(inner_image, inner, name="inner")
    low = layers.MaxPooling2D()(layers.Concatenate()([inner(first), shared(second), inner(shared(first))]))
    high = layers.UpSampling2D(interpolation="bilinear")(layers.DepthwiseConv2D(3, padding="same")(low))
    joined = layers.Add()([layers.Conv2D(4, 1)(layers.Dropout(0.5)(high)), layers.PReLU(shared_axes=[1, 2])(first)])
    end = layers.Conv2D(outputs, 1, activation=ending, name="end")(joined)
    return keras.Model(image, end)


def filled(model):
    """The model with other weights than it began with, in either version of Keras."""
    if isinstance(model, tf_keras.Model):
        return randomized(model)
    generator = np.random.default_rng(7)
    for weight in model.weights:
        values = generator.normal(0, 0.5, weight.shape)
        if weight.dtype == "float32":  # the others are seeds
            weight.assign(np.abs(values) if "variance" in weight.path else values)
    return model


def saved(model, path):
    """The path, once the model is there."""
    model.save(path)
    return path


def plain_network():
    """A small network of tf_keras, for tests that change its file."""
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            layers.Input((16, 16, 1)),
            layers.Conv2D(2, 3, padding="same", activation="relu"),
            layers.Conv2D(1, 1, activation="sigmoid"),
        ]
    )
    return filled(model)


def with_changes(source, path, config=None, **entries):
    """A copy with another configuration, or with other entries by name; '.' in names is spelled '_'."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w") as copied:
        for name in archive.namelist():
            content = entries.get(name.replace(".", "_"), archive.read(name))
            if name == "config.json" and config is not None:
                content = json.dumps(config)
            if content is not None:
                copied.writestr(name, content)
    return path


def config_of(path):
    """What a Keras file says of its layers."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def stored(arrays, **options):
    """Bytes of an HDF5 file."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, value in arrays.items():
            if isinstance(value, np.ndarray):
                file.create_dataset(name, data=value, **options)
            else:
                file[name] = value
    return stream.getvalue()


def weights_of(path):
    """Arrays by name, of the weights in a Keras file."""
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        found = {}
        file.visititems(lambda name, one: found.update({name: one[()]}) if isinstance(one, h5py.Dataset) else None)
    return found


def mutated_bytes(content, generator):
    """With some bytes exchanged."""
    changed = bytearray(content)
    for place in generator.integers(0, len(content), generator.integers(1, 30)):
        changed[place] = generator.integers(0, 256)
    return bytes(changed)


def mutated_config(config, generator):
    """With one value, anywhere, exchanged for another kind of value."""
    config = copy.deepcopy(config)
    places = []

    def collect(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                collect(value[key])

    collect(config)
    container, key = places[generator.integers(len(places))]
    others = [
        None,
        True,
        -1,
        0,
        2**40,
        0.5,
        float("nan"),
        "",
        "b",
        "../x",
        [],
        [[]],
        {},
        [1, "a"],
        {"class_name": "Add"},
    ]
    container[key] = others[generator.integers(len(others))]
    return config


def write_ours(run, metadata, card, path):
    """The network of a run as a file of ours."""
    writer = KerasWriter()
    path.write_bytes(writer.pack(writer.convert(segmentation_graph([run]), [run]), metadata, card))
