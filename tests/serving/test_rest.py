"""TensorFlow Serving's REST interface: its shapes, the run's own answers in them, and what is refused."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from ustoolkit.data.example import sample_to_features
from ustoolkit.data.image_files import decode_png, encode_png
from ustoolkit.data.sample import Sample
from ustoolkit.data.tfrecord import encode_example
from ustoolkit.errors import RunError
from ustoolkit.serving.served_model import ServedModel

PREDICT = "/v1/models/tiny:predict"


def b64(content):
    return {"b64": base64.b64encode(content).decode()}


def compact(*files, spacing=(0.2, 0.1)):
    rows = [{"image_bytes": b64(content), "spacing_mm": list(spacing)} for content in files]
    return {"signature_name": "compact", "instances": rows}


def refused(answer, status, *words):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    for word in words:
        assert word in answer.json()["error"]


def test_masks_are_the_runs_in_every_signature(client, images, expected):
    files = [encode_png(image) for image in images]
    samples = [Sample(f"{n}", image, None, "", "", (0.2, 0.1)) for n, image in enumerate(images)]
    examples = [encode_example(sample_to_features(sample, {})) for sample in samples]
    for number, (probability, mask, certain) in enumerate(expected):
        height, width = mask.shape
        asked = {
            "serving_default": {"images": [images[number].tolist()]},
            "with_spacing": {"images": [images[number].tolist()], "spacing_mm": [[0.2, 0.1]]},
            "image_bytes": {"image_bytes": [b64(files[number])]},
            "tf_example": {"examples": [b64(examples[number])]},
        }
        for signature, inputs in asked.items():
            answer = client.post(PREDICT, json={"signature_name": signature, "inputs": inputs})
            assert answer.status_code == 200, answer.text
            found = answer.json()["outputs"]
            np.testing.assert_array_equal(np.array(found["mask"])[0][certain], mask[certain])
            np.testing.assert_allclose(np.array(found["probability"])[0], probability, atol=1e-5)
            assert abs(found["area_pixels"][0] - mask.sum()) <= (~certain).sum()
        found = client.post(PREDICT, json=compact(files[number])).json()["predictions"][0]
        picture = decode_png(base64.b64decode(found["mask_bytes"]["b64"]))
        np.testing.assert_array_equal(picture[certain], 255 * mask[certain])
        assert found["size"] == [height, width]
        assert found["area_mm2"] == pytest.approx(0.02 * found["area_pixels"], rel=1e-5)


def test_rows_and_columns_say_the_same(client, images):
    files = [encode_png(image) for image in images[:2]]
    rows = client.post(PREDICT, json=compact(*files)).json()["predictions"]
    inputs = {"image_bytes": [b64(content) for content in files], "spacing_mm": [[0.2, 0.1]] * 2}
    columns = client.post(PREDICT, json={"signature_name": "compact", "inputs": inputs}).json()["outputs"]
    assert set(rows[0]) == {"area_mm2", "area_pixels", "mask_bytes", "probability_bytes", "size"}
    assert columns == {name: [row[name] for row in rows] for name in rows[0]}


def test_a_single_input_needs_no_name(client, png, images):
    bare = client.post(PREDICT, json={"signature_name": "image_bytes", "instances": [b64(png)]}).json()
    named = client.post(
        PREDICT, json={"signature_name": "image_bytes", "instances": [{"image_bytes": b64(png)}]}
    ).json()
    column = client.post(PREDICT, json={"signature_name": "image_bytes", "inputs": [b64(png)]}).json()
    assert bare == named
    assert column["outputs"]["mask"][0] == bare["predictions"][0]["mask"]
    pixels = client.post(PREDICT, json={"instances": [images[0].tolist()]}).json()
    assert pixels["predictions"][0]["mask"] == bare["predictions"][0]["mask"]


def test_what_is_not_known_is_null(client, png):
    answer = client.post(PREDICT, json=compact(png, spacing=(0, 0)))
    assert answer.json()["predictions"][0]["area_mm2"] is None
    assert "NaN" not in answer.text


def test_requests_at_once_are_answered_as_if_alone(client, images):
    bodies = [compact(encode_png(image)) for image in images] + [compact(encode_png(images[0])[:-200])]
    together = client.together(*(("POST", PREDICT, {"json": body}) for body in bodies * 3))
    alone = [client.post(PREDICT, json=body) for body in bodies]
    assert [answer.status_code for answer in alone] == [200, 200, 200, 400]
    for first, second in zip(together, alone * 3, strict=True):
        assert first.status_code == second.status_code and first.json() == second.json()


def test_files_of_other_sizes_do_not_pad_each_others_answers(client, images):
    bodies = [{"signature_name": "image_bytes", "instances": [b64(encode_png(image))]} for image in images]
    for image, answer in zip(images, client.together(*(("POST", PREDICT, {"json": b}) for b in bodies)), strict=True):
        assert np.shape(answer.json()["predictions"][0]["mask"]) == image.shape[:2]


def test_status_and_metadata_are_as_tensorflow_serving_writes_them(client, model):
    status = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for address in ("/v1/models/tiny", "/v1/models/tiny/versions/3"):
        assert client.get(address).json() == {"model_version_status": [status]}
        described = client.get(f"{address}/metadata").json()
        assert described["model_spec"] == {"name": "tiny", "signature_name": "", "version": "3"}
    signatures = described["metadata"]["signature_def"]["signature_def"]
    sizes = [{"size": "-1", "name": ""}] * 4
    assert signatures["serving_default"]["inputs"]["images"] == {
        "dtype": "DT_UINT8",
        "tensor_shape": {"dim": sizes, "unknown_rank": False},
        "name": "serving_default_images:0",
    }
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"
    kinds = {"float32": "DT_FLOAT", "uint8": "DT_UINT8", "int32": "DT_INT32", "string": "DT_STRING"}
    for name, ports in model.metadata["signatures"].items():
        for side in ("inputs", "outputs"):
            found = {key: value["dtype"] for key, value in signatures[name][side].items()}
            assert found == {key: kinds[value["dtype"]] for key, value in ports[side].items()}


def test_the_newest_version_is_served_and_others_are_not_found(client, png):
    assert client.get("/v1/models").json()["models"] == [{"name": "tiny", "version": "3", "task": "segmentation"}]
    assert client.post("/v1/models/tiny/versions/3:predict", json=compact(png)).status_code == 200
    for address in (
        "/v1/models/other:predict",
        "/v1/models/tiny/versions/2:predict",
        "/v1/models/tiny/versions/x:predict",
    ):
        refused(client.post(address, json=compact(png)), 404, "tiny, version 3")
    refused(client.get("/v1/models/other"), 404)
    refused(client.get("/v1/models/tiny/versions/2/metadata"), 404)


def nested(*shape, value=7):
    return np.full(shape, value).tolist()


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"\xff\xfe", "JSON"),
        (b'{"instances": [NaN]}', "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"{}", "either"),
        ({"instances": [], "inputs": []}, "either"),
        ({"instances": [1], "extra": 1}, "either"),
        ({"instances": [[[[1]]]], "signature_name": "none"}, "signature_name"),
        ({"instances": [[[[1]]]], "signature_name": [1]}, "signature_name"),
        ({"instances": []}, "at least one"),
        ({"instances": {"images": 1}}, "list"),
        ({"instances": [{"other": 1}]}, "images"),
        ({"inputs": {"other": 1}}, "images"),
        ({"inputs": {"images": 3}}, "list"),
        ({"inputs": [1]}, "dimensions"),
        ({"inputs": nested(2, 3, 4, 1, 1)}, "dimensions"),
        ({"inputs": nested(1, 3, 4, 2)}, "channels"),
        ({"inputs": nested(1, 3, 4, 1, value=256)}, "0 to 255"),
        ({"inputs": nested(1, 3, 4, 1, value=-1)}, "0 to 255"),
        ({"inputs": nested(1, 3, 4, 1, value=0.5)}, "whole numbers"),
        ({"inputs": nested(1, 3, 4, 1, value="1")}, "whole numbers"),
        ({"inputs": nested(1, 3, 4, 1, value=True)}, "whole numbers"),
        ({"inputs": [[[["a" * 100_000]], *nested(900, 1, 1)]]}, "whole numbers"),
        ({"inputs": [[[[10**18]]]]}, "0 to 255"),
        (b'{"inputs": [[[[1000000000000000000000000000000]]]]}', ""),
        ({"inputs": [[[[1], [2]], [[3]]]]}, "uneven"),
        ({"inputs": [[[]]]}, "shape"),
        ({"signature_name": "image_bytes", "instances": ["%%%"]}, "found something else"),
        ({"signature_name": "image_bytes", "instances": [{"b64": "%%%"}]}, "base64"),
        ({"signature_name": "image_bytes", "instances": [{"b64": 1}]}, "image_bytes"),
        ({"signature_name": "image_bytes", "instances": [7]}, "base64"),
        ({"signature_name": "tf_example", "instances": [{"b64": "AAAA"}]}, "Example"),
        ({"signature_name": "compact", "instances": [{"b64": "AAAA"}]}, "spacing_mm"),
        ({"signature_name": "compact", "inputs": {"image_bytes": [{"b64": "AAAA"}], "spacing_mm": [[1, 2, 3]]}}, "2]"),
        (
            {"signature_name": "compact", "inputs": {"image_bytes": [{"b64": "AAAA"}], "spacing_mm": nested(2, 2)}},
            "as many rows",
        ),
        ({"signature_name": "compact", "inputs": {"image_bytes": ["x"], "spacing_mm": [[1e300, 1]]}}, "range"),
    ],
)
def test_what_is_no_request_is_refused(client, body, word):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(PREDICT, content=content, headers={"Content-Type": "application/json"})
    refused(answer, 415 if word == "found something else" else 400, word)


def test_limits(client, png, images):
    large = encode_png(np.zeros((600, 600, 1), np.uint8))
    refused(client.post(PREDICT, json=compact(large)), 413, "250,000 pixels")
    refused(client.post(PREDICT, json=compact(*[encode_png(np.zeros((300, 300, 1), np.uint8))] * 4)), 413, "pixels")
    refused(client.post(PREDICT, json=compact(*[png] * 5)), 413, "4 rows")
    refused(client.post(PREDICT, json={"instances": [images[0].tolist()] * 60}), 413, "bytes")

    async def without_length():
        for _ in range(3):
            yield b" " * 500_000

    refused(client.post(PREDICT, content=without_length()), 413, "bytes")


def test_only_json_is_taken(client, png):
    content = json.dumps(compact(png)).encode()
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        refused(client.post(PREDICT, content=content, headers={"Content-Type": media}), 415, "application/json")
    compressed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    refused(client.post(PREDICT, content=content, headers=compressed), 415)
    with_charset = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post(PREDICT, content=content, headers=with_charset).status_code == 200
    assert client.post(PREDICT, content=content).status_code == 200


def test_a_folder_without_an_export_is_refused(tmp_path):
    with pytest.raises(RunError, match="expected an exported SavedModel"):
        ServedModel(tmp_path)


@pytest.mark.parametrize("signature", ["compact", "image_bytes", "tf_example"])
def test_sixteen_bits_are_refused_before_they_come_out_black(client, images, signature):
    stream = io.BytesIO()
    Image.fromarray(images[0][..., 0].astype(np.uint16) * 16).save(stream, "PNG")
    value = stream.getvalue()
    if signature == "tf_example":
        features = sample_to_features(Sample("a", images[0], None, "", "", (0.2, 0.1)), {})
        value = encode_example({**features, "image/encoded": [value]})
    inputs = {next(iter(client.get("/metadata").json()["signatures"][signature]["inputs"])): [b64(value)]}
    if signature == "compact":
        inputs = {"image_bytes": [b64(value)], "spacing_mm": [[0.1, 0.1]]}
    answer = client.post(PREDICT, json={"signature_name": signature, "inputs": inputs})
    refused(answer, 400, "image 0", "16 bits", "8 bits")
