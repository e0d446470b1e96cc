"""Image files as they are sent: read by content alone, within limits, in memory; whatever is damaged is refused."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.data.fuzz import mutate_bytes
from tests.data.readers_clips.making import data_set, encapsulated, grey_picture, jpeg, picture, region, save
from ustoolkit.data.image_files import encode_png
from ustoolkit.serving import uploads
from ustoolkit.serving.refusal import Refusal
from ustoolkit.serving.uploads import read_spacing, read_upload

LARGEST = 250_000


def encoded(pixels, form, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def dicom(**told):
    stream = io.BytesIO()
    data_set(**told).save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def png_that_says(width, height):
    """A PNG of another size than its header has it."""
    content = bytearray(encode_png(grey_picture()))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def refusal(content, largest=LARGEST):
    with pytest.raises(Refusal) as problem:
        read_upload(content, largest)
    return problem.value


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "JPEG"])
def test_pictures_are_read_as_they_are(form):
    for pixels in (grey_picture(), picture()):
        found = read_upload(encoded(pixels, form), LARGEST)
        assert found.pixels.dtype == np.uint8 and found.pixels.shape[:2] == pixels.shape[:2]
        assert found.spacing_mm is None and found.warnings == []
        if form != "JPEG":
            np.testing.assert_array_equal(found.pixels.squeeze(), pixels)


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_upload(encoded(picture(), "JPEG", exif=exif), LARGEST).pixels.shape == (20, 16, 3)


def test_sixteen_bits_are_read():
    pixels = (grey_picture().astype(np.uint16)) * 257
    np.testing.assert_array_equal(read_upload(encoded(pixels, "PNG"), LARGEST).pixels[..., 0], grey_picture())


def test_a_dicom_file_is_read_with_its_spacing_and_leaves_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(uploads, "_MEMORY", tmp_path)
    found = read_upload(dicom(SequenceOfUltrasoundRegions=[region((0, 0, 20, 16), delta=(0.02, 0.03))]), LARGEST)
    np.testing.assert_array_equal(found.pixels, picture())
    assert found.spacing_mm == pytest.approx((0.3, 0.2)) and found.warnings == []
    assert list(tmp_path.iterdir()) == []


def test_of_a_clip_the_first_frame_is_read_and_said_so():
    frames = np.stack([grey_picture(), 250 - grey_picture()])
    found = read_upload(dicom(pixels=frames, BurnedInAnnotation="YES"), LARGEST)
    np.testing.assert_array_equal(found.pixels[..., 0], grey_picture())
    assert "first" in found.warnings[0] and "drawn into" in found.warnings[1]
    pages = [Image.fromarray(frame) for frame in frames]
    stream = io.BytesIO()
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    found = read_upload(stream.getvalue(), LARGEST)
    np.testing.assert_array_equal(found.pixels[..., 0], grey_picture())
    assert "first" in found.warnings[0]


def test_a_decoder_in_a_process_of_its_own_finds_the_file(tmp_path):
    gdcm = pytest.importorskip("gdcm")
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(save(data_set(pixels=grey_picture()), tmp_path / "plain.dcm")))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLSLossless))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(tmp_path / "packed.dcm"))
    assert writer.Write()
    found = read_upload((tmp_path / "packed.dcm").read_bytes(), LARGEST)
    np.testing.assert_array_equal(found.pixels[..., 0], grey_picture())


def test_names_within_a_dicom_file_are_not_told():
    content = dicom(PatientName="Ostermann^Frieda", pixels=np.zeros((30, 30), np.uint8))
    for damaged in (content[:-500], content.replace(b"MONOCHROME2", b"MONOCHRONE2")):
        problem = refusal(damaged)
        assert problem.status == 400 and "Ostermann" not in str(problem) and "/" not in str(problem)


@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        (b"", 400, "found none"),
        (b"text", 415, "PNG, JPEG, BMP, TIFF"),
        (b"\0" * 1000, 415, "found something else"),
        (encoded(grey_picture(), "GIF"), 415, "found something else"),
        (encode_png(grey_picture())[:60], 400, "damaged"),
        (encode_png(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8))[:-3000], 400, "cut short"),
        (encode_png(np.zeros((501, 500), np.uint8)), 413, "500 × 501"),
        (encoded(np.zeros((600, 600), np.uint8), "TIFF", compression="tiff_deflate"), 413, "250,000"),
        (png_that_says(5_000, 5_000), 413, "5000 × 5000"),
        (png_that_says(40_000, 40_000), 413, "far more"),
        (png_that_says(100_000, 1), 413, "on a side"),
        (png_that_says(0, 7), 415, "something else"),
        (b"\0" * 128 + b"DICM", 400, "found none in it"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 500, 400, "found none in it"),
        (dicom(pixels=np.zeros((600, 600), np.uint8)), 413, "600 × 600"),
        (dicom(Rows=60_000, Columns=60_000), 413, "60000"),
        (dicom(Rows=2, Columns=20_001), 413, "20001 × 2"),
        (dicom(Rows=400, Columns=400), 400, "cut short"),
        (dicom(NumberOfFrames=900_000), 400, "frames"),
    ],
)
def test_what_cannot_be_shown_is_refused(content, status, word):
    problem = refusal(content)
    assert problem.status == status and word in str(problem)


def test_a_jpeg_of_endless_scans_is_refused():
    content = encoded(picture(), "JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    assert read_upload(content, LARGEST).pixels.shape == (16, 20, 3)
    problem = refusal(content[:start] + content[start:-2] * 100 + content[-2:])
    assert problem.status == 413 and "scans" in str(problem)


@pytest.mark.parametrize(("text", "expected"), [("0.1", (0.1, 0.1)), ("0.1,0.25", (0.1, 0.25)), ("1e-2", (0.01, 0.01))])
def test_spacing(text, expected):
    assert read_spacing(text) == expected


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "nan", "inf", "1,2,3", "1,", "101", "a", "0.1;0.2", "1e999", "9" * 5000]
)
def test_no_spacing(text):
    with pytest.raises(Refusal, match="spacing_mm") as problem:
        read_spacing(text)
    assert problem.value.status == 400


def seeds():
    """Files to mutate, of each kind that is read."""
    return [
        encode_png(grey_picture()),
        encode_png(picture()),
        encoded(picture(), "JPEG"),
        encoded(picture(), "JPEG", progressive=True),
        encoded(picture(), "BMP"),
        encoded(picture(), "TIFF"),
        encoded(grey_picture(), "TIFF", compression="tiff_lzw"),
        dicom(SequenceOfUltrasoundRegions=[region((0, 0, 20, 16))]),
        dicom(pixels=np.stack([grey_picture()] * 3)),
        _saved(encapsulated([jpeg(picture())], "1.2.840.10008.1.2.4.50", "YBR_FULL_422")),
    ]


def _saved(header):
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.parametrize("seed", range(20))
def test_mutated_files_are_read_or_refused(seed):
    draw = random.Random(seed)
    for content in seeds():
        try:
            found = read_upload(mutate_bytes(content, draw), LARGEST)
        except Refusal as problem:
            assert 400 <= problem.status < 500 and str(problem).startswith("the file")
        else:
            assert found.pixels.ndim == 3 and found.pixels.shape[2] in (1, 3) and found.pixels.size <= 3 * LARGEST
