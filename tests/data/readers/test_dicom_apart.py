"""What a code stream says of its size is believed before DICOM's description, and the decoder's memory is limited."""

import struct

import numpy as np
import pytest
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless

from tests.data.readers_clips.making import data_set, encapsulated, grey_picture, jpeg, jpeg_2000, picture, save
from ustoolkit.data.readers import dicom_pixels
from ustoolkit.data.readers.dicom_apart import coded_size, decode_apart
from ustoolkit.data.readers.dicom_files import open_dicom
from ustoolkit.data.readers.dicom_pixels import decode_frame
from ustoolkit.errors import DataError

HEADER = struct.pack(">HBHHB3B", 11, 8, 700, 900, 1, 1, 0x11, 0)  # length, bits, height, width, one component
COMMENT = b"\xff\xfe\x00\x08" + b"\xff\xc3\x00\x0b\x08\x00"  # holds what looks like a frame header


def lossless(form, path, pixels):
    """Writes pixels as GDCM encodes them, and returns the file's path."""
    gdcm = pytest.importorskip("gdcm")
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(save(data_set(pixels), path.with_suffix(".plain"))))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, form)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    return str(path)


def decoded(path):
    with open_dicom(path, "a file") as (header, file):
        return decode_frame(header, file, 0, "a file")


@pytest.mark.parametrize("marker", [0xC0, 0xC1, 0xC3, 0xF7])
@pytest.mark.parametrize("before", [b"", COMMENT, b"\0\0", b"\xff\xff", b"\xff\x01", COMMENT + COMMENT])
def test_the_size_is_that_of_the_frame_header(marker, before):
    assert coded_size(b"\xff\xd8" + before + bytes([0xFF, marker]) + HEADER) == (700, 900)


def test_the_size_of_real_code_streams():
    for options in ({}, {"progressive": True}, {"markers": ("jfif", "adobe")}):
        assert coded_size(jpeg(picture(), **options)) == (16, 20)


@pytest.mark.parametrize(
    "code",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8" + b"\xff" * 20,
        b"\xff\xd8\xff\xc3" + HEADER[:6],
        b"\xff\xd8\xff\xda\x00\x08" + bytes(6) + b"\xff\xc3" + HEADER,
        b"\xff\xd8\xff\xc4\x00\x00",
        b"\xff\xd8\xff\xd9\xff\xc3" + HEADER,
        b"\0\xff\xd8\xff\xc3" + HEADER,
        jpeg_2000(picture(), True),
    ],
)
def test_a_code_stream_without_a_size_is_refused(code):
    with pytest.raises(ValueError, match="how large"):
        coded_size(code)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEGLosslessSV1])
def test_a_code_stream_of_another_size_never_reaches_the_decoder(syntax, tmp_path, monkeypatch):
    marker = b"\xff\xf7" if syntax == JPEGLSLossless else b"\xff\xc3"
    huge = b"\xff\xd8" + marker + struct.pack(">HBHHB3B", 11, 8, 16_000, 16_000, 1, 1, 0x11, 0) + bytes(3000)
    path = save(encapsulated([huge], syntax, "MONOCHROME2", pixels=grey_picture()), tmp_path / "lie.dcm")
    asked = []
    monkeypatch.setattr("ustoolkit.data.readers.dicom_checks.dicom_apart.is_installed", lambda: True)
    monkeypatch.setattr(dicom_pixels, "decode_apart", lambda *a: asked.append(a) or grey_picture())
    with pytest.raises(DataError, match="holds 16000 × 16000 pixels"):
        decoded(path)
    assert not asked


def test_of_several_frames_each_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("ustoolkit.data.readers.dicom_checks.dicom_apart.is_installed", lambda: True)
    monkeypatch.setattr(dicom_pixels, "decode_apart", lambda *a: grey_picture())
    sizes = [(16, 20), (17, 20)]
    codes = [b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB3B", 11, 8, *size, 1, 1, 0x11, 0) + bytes(40) for size in sizes]
    path = save(encapsulated(codes, JPEGLosslessSV1, "MONOCHROME2", pixels=grey_picture()), tmp_path / "two.dcm")
    with open_dicom(path, "a file") as (header, file):
        assert decode_frame(header, file, 0, "a file").shape == (16, 20, 1)
        with pytest.raises(DataError, match="holds 20 × 17"):
            decode_frame(header, file, 1, "a file")


def test_a_decoder_that_takes_more_memory_than_its_frame_needs_gives_up(tmp_path):
    pixels = (np.arange(5000 * 5000) * 7 % 251).astype(np.uint16).reshape(5000, 5000)
    path = lossless("JPEGLSLossless", tmp_path / "a.dcm", pixels)
    with pytest.raises(ValueError, match="gave up"):
        decode_apart(path, 0, 1, 16 * 16)
    np.testing.assert_array_equal(decode_apart(path, 0, 1, pixels.nbytes), pixels)
