"""A `Sample` as the features of a `tf.train.Example`, under the keys that TensorFlow's own vision code reads."""

import hashlib
import io
import json
import zlib

import numpy as np
from PIL import Image

from ustoolkit.data.image_files import decode_png
from ustoolkit.data.sample import Sample
from ustoolkit.data.tfrecord import Feature
from ustoolkit.errors import RecordsError

UNKNOWN_LABEL = -1


def sample_to_features(sample: Sample, labels: dict[str, int]) -> dict[str, Feature]:
    """The features of one record; images and masks are stored as PNG, so without loss.

    Args:
        sample: the image and what is known of it.
        labels: index of each image label; a label not in it is stored with index -1 and its text.
    """
    features: dict[str, Feature] = {
        "image/encoded": [_compressed(sample.image)],
        "image/format": [b"png"],
        "image/height": [sample.image.shape[0]],
        "image/width": [sample.image.shape[1]],
        "image/filename": [sample.filename.encode()],
        "image/source_id": [sample.source_id.encode()],
        "image/key/sha256": [pixel_digest(sample.image).encode()],
        "image/class/label": [labels.get(sample.label, UNKNOWN_LABEL)],
        "image/class/text": [sample.label.encode()],
        "image/patient_id": [sample.patient_id.encode()],
        "image/spacing_mm": [float(value) for value in sample.spacing_mm or ()],
        "image/attributes": [json.dumps(sample.attributes, ensure_ascii=False, sort_keys=True).encode()],
        "image/segmentation/class/encoded": [],
        "image/segmentation/class/format": [],
    }
    if sample.mask is not None:
        features["image/segmentation/class/encoded"] = [_compressed(sample.mask)]
        features["image/segmentation/class/format"] = [b"png"]
    return features


def features_to_sample(features: dict[str, Feature]) -> Sample:
    """The sample that `sample_to_features` stored; spacing comes back in single precision."""
    image = decode_png(_content(features, "image/encoded"))
    mask = "image/segmentation/class/encoded"
    spacing = features.get("image/spacing_mm")
    return Sample(
        source_id=_content(features, "image/source_id").decode(),
        image=image[..., np.newaxis] if image.ndim == 2 else image,
        mask=decode_png(_content(features, mask)) if features.get(mask) else None,
        label=_content(features, "image/class/text").decode(),
        patient_id=_content(features, "image/patient_id").decode(),
        spacing_mm=(float(spacing[0]), float(spacing[1])) if spacing else None,
        filename=_content(features, "image/filename").decode(),
        attributes=json.loads(_content(features, "image/attributes")),
    )


def pixel_digest(image: np.ndarray) -> str:
    """SHA-256 (hex) of the pixels and their shape: equal for one picture, however its file was compressed."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def _content(features: dict[str, Feature], name: str) -> bytes:
    """The bytes of a feature."""
    value = features[name][0]
    if not isinstance(value, bytes):
        raise RecordsError(f"{name}: expected bytes in a record, found a number. Convert the data set again.")
    return value


def _compressed(pixels: np.ndarray) -> bytes:
    """PNG by runs of equal bytes alone.

    On speckle, zlib's search for longer matches takes five times as long and finds nothing.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=6, compress_type=zlib.Z_RLE)
    return stream.getvalue()
