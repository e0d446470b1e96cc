"""Every kind of DICOM image gives the picture drawn, says its scale, and names no patient; damage is refused."""

import collections
import json
import struct
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels import apply_color_lut, apply_voi_lut, pixel_array
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from tests.data.readers_clips.making import (
    COLUMNS,
    ROWS,
    data_set,
    encapsulated,
    grey_picture,
    jpeg,
    jpeg_2000,
    mask_of,
    picture,
    region,
    save,
)
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.readers import detect, open_data_set
from ustoolkit.data.readers.dicom_apart import is_installed
from ustoolkit.data.readers.dicom_identity import Identities, hidden_name
from ustoolkit.data.records import write_records
from ustoolkit.errors import DataError, UstoolkitError
from ustoolkit.recipe import DataSetSettings


def entries(root, **changes):
    return open_data_set(root, DataSetSettings(format="dicom", **changes))


def samples(root, **changes):
    return [entry.load() for entry in entries(root, **changes)]


def load(header, folder):
    (sample,) = samples(save(header, folder / "a.dcm").parent)
    return sample


def refusal(folder, **changes):
    (entry,) = entries(folder, **changes)
    with pytest.raises(DataError) as problem:
        entry.load()
    return str(problem.value)


def rgb(image):
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def ybr(pixels):
    """YBR_FULL by the formula of DICOM PS3.3 C.7.6.3.1.2."""
    red, green, blue = (pixels[..., channel].astype(float) for channel in range(3))
    luma = 0.2990 * red + 0.5870 * green + 0.1140 * blue
    blueness = -0.1687 * red - 0.3313 * green + 0.5000 * blue + 128
    redness = 0.5000 * red - 0.4187 * green - 0.0813 * blue + 128
    return np.stack([luma, blueness, redness], axis=-1).round().clip(0, 255).astype(np.uint8)


# --- pixels ---


def in_planes():
    return data_set(PlanarConfiguration=1, PixelData=picture().transpose(2, 0, 1).tobytes())


def in_syntax(syntax, pixels=None):
    header = data_set(pixels)
    header.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian and header.BitsAllocated == 16:
        header.PixelData = np.frombuffer(header.PixelData, "<u2").astype(">u2").tobytes()
    return header


def run_length_encoded():
    header = data_set()
    header.compress(RLELossless)
    return header


EXACT = {
    "explicit": data_set,
    "planes": in_planes,
    "implicit": lambda: in_syntax(ImplicitVRLittleEndian),
    "big endian": lambda: in_syntax(ExplicitVRBigEndian),
    "deflated": lambda: in_syntax(DeflatedExplicitVRLittleEndian),
    "run lengths": run_length_encoded,
    "JPEG 2000": lambda: encapsulated([jpeg_2000(picture(), False)], JPEG2000Lossless, "RGB"),
    "JPEG 2000, transformed": lambda: encapsulated([jpeg_2000(picture(), True)], JPEG2000Lossless, "YBR_RCT"),
    "JPEG 2000, called lossy": lambda: encapsulated([jpeg_2000(picture(), True)], JPEG2000, "YBR_ICT"),
    "JPEG 2000, colours misnamed": lambda: encapsulated([jpeg_2000(picture(), True)], JPEG2000Lossless, "YBR_FULL"),
}


@pytest.mark.parametrize("name", EXACT)
def test_colours_come_out_as_drawn(name, tmp_path):
    np.testing.assert_array_equal(load(EXACT[name](), tmp_path).image, picture())


def test_luma_and_chroma_become_the_colours_drawn(tmp_path):
    sample = load(data_set(ybr(picture()), PhotometricInterpretation="YBR_FULL"), tmp_path)
    np.testing.assert_allclose(sample.image.astype(int), picture(), atol=2)


def test_halved_chroma_becomes_the_colours_drawn(tmp_path):
    pairs = ybr(picture()).reshape(ROWS, COLUMNS // 2, 2, 3)  # the drawn patches begin and end between pairs
    content = np.concatenate([pairs[:, :, :, 0], pairs[:, :, 0, 1:]], axis=2)
    header = data_set(PhotometricInterpretation="YBR_FULL_422", PixelData=content.tobytes())
    np.testing.assert_allclose(load(header, tmp_path).image.astype(int), picture(), atol=2)


@pytest.mark.parametrize("markers", [("jfif",), (), ("adobe",), ("jfif", "adobe")], ids=lambda names: "+".join(names))
@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_FULL"])
def test_jpeg_colours_are_right_whatever_markers_it_has(markers, photometric, tmp_path):
    colours = np.zeros((16, 24, 3), np.uint8)
    colours[:, :8], colours[:, 8:16], colours[:, 16:] = (220, 40, 30), (30, 200, 60), (40, 60, 210)
    code = jpeg(colours, markers)
    sample = load(encapsulated([code], JPEGBaseline8Bit, photometric, Columns=24), tmp_path)
    np.testing.assert_allclose(sample.image.astype(int), colours, atol=3)


def test_jpeg_that_says_that_it_is_rgb_is_taken_at_its_word(tmp_path):
    code = jpeg(np.full((16, 16, 3), (220, 40, 30), np.uint8), keep_rgb=True)
    sample = load(encapsulated([code], JPEGBaseline8Bit, "YBR_FULL_422", Columns=16), tmp_path)
    np.testing.assert_allclose(sample.image[8, 8].astype(int), (220, 40, 30), atol=3)


def test_colours_that_are_all_grey_become_one_channel(tmp_path):
    sample = load(data_set(np.repeat(grey_picture()[..., None], 3, axis=2)), tmp_path)
    np.testing.assert_array_equal(sample.image, grey_picture()[..., None])


@pytest.mark.parametrize("entry_bits", [8, 16, "16, of which 8 are used"])
def test_a_palette_gives_its_colours(entry_bits, tmp_path):
    table = np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint16)
    stored = {8: table.astype(np.uint8), 16: table * 256 + 7}.get(entry_bits, table)
    told = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        told[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8 if entry_bits == 8 else 16]
        told[f"{name}PaletteColorLookupTableData"] = stored[:, channel].tobytes()
    sample = load(data_set(grey_picture(), **told), tmp_path)
    np.testing.assert_array_equal(sample.image, table[grey_picture()])


@pytest.mark.parametrize(("photometric", "expected"), [("MONOCHROME2", 0), ("MONOCHROME1", 255)])
def test_grey_is_grey_and_may_be_inverted(photometric, expected, tmp_path):
    pixels = grey_picture()
    pixels[0, 0] = 0
    sample = load(data_set(pixels, PhotometricInterpretation=photometric), tmp_path)
    assert sample.image[0, 0, 0] == expected
    np.testing.assert_array_equal(np.abs(expected - sample.image[..., 0].astype(int)), pixels)


@pytest.mark.parametrize("syntax", [None, ExplicitVRBigEndian])
def test_sixteen_bits_are_scaled_from_the_bits_that_are_stored(syntax, tmp_path):
    pixels = np.linspace(0, 4095, ROWS * COLUMNS).astype(np.uint16).reshape(ROWS, COLUMNS)
    header = in_syntax(syntax, pixels) if syntax else data_set(pixels)
    header.BitsStored, header.HighBit = 12, 11
    image = load(header, tmp_path).image[..., 0]
    np.testing.assert_array_equal(image, np.round(pixels / 4095 * 255))


def test_signed_values_begin_at_their_least(tmp_path):
    pixels = np.linspace(-32768, 32767, ROWS * COLUMNS).round().astype(np.int16).reshape(ROWS, COLUMNS)
    image = load(data_set(pixels), tmp_path).image[..., 0]
    assert (image[0, 0], image[-1, -1]) == (0, 255)
    assert (np.diff(image.ravel().astype(int)) >= 0).all()


def test_a_window_shows_its_part_of_the_values(tmp_path):
    pixels = np.full((ROWS, COLUMNS), 1000, np.uint16)
    pixels[0, :4] = (0, 949, 1050, 60000)
    image = load(data_set(pixels, WindowCenter=1000, WindowWidth=101), tmp_path).image[..., 0]
    assert list(image[0, :4]) == [0, 0, 255, 255]  # 949.5 is black and 1049.5 white
    assert image[5, 5] == round((0.5 / 100 + 0.5) * 255)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.5, -100)])
def test_windows_agree_with_pydicom(function, slope, intercept, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 4096, (ROWS, COLUMNS)).astype(np.uint16)
    told = {"VOILUTFunction": function, "WindowCenter": [900, 5], "WindowWidth": [1200, 7], "BitsStored": 12}
    header = data_set(pixels, RescaleSlope=slope, RescaleIntercept=intercept, HighBit=11, **told)
    shown = apply_voi_lut(pixels * slope + intercept, header, prefer_lut=False)
    low, high = intercept, 4095 * slope + intercept  # what pydicom spreads the window over
    image = load(header, tmp_path).image[..., 0]
    np.testing.assert_allclose(image.astype(float), (shown - low) / (high - low) * 255, atol=0.51)


def test_dark_values_of_which_nothing_says_how_to_show_them_are_refused(tmp_path):
    save(data_set(grey_picture().astype(np.uint16)), tmp_path / "a.dcm")
    assert "all but black" in refusal(tmp_path)


# --- which files ---


def test_files_are_known_by_their_content(tmp_path):
    for name in ("plain", "1.2.840.113619.2", "upper.DCM", "deep/er/x.ima"):
        save(data_set(), tmp_path / name)
    (tmp_path / "LICENSE").write_text("x" * 300)
    (tmp_path / "empty").write_bytes(b"")
    save(data_set(), tmp_path / "DICOMDIR")
    assert detect(tmp_path) == "dicom"
    assert [sample.source_id for sample in samples(tmp_path)] == ["1.2.840.113619.2", "plain", "upper", "x"]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_file_without_its_head_is_read(syntax, tmp_path):
    content = save(in_syntax(syntax), tmp_path / "a.dcm").read_bytes()
    data = content[144 + struct.unpack("<I", content[140:144])[0] :]
    assert 8 in data[:2]  # the first element is of group 8
    (tmp_path / "a.dcm").write_bytes(data)
    np.testing.assert_array_equal(samples(tmp_path)[0].image, picture())


def test_equal_names_are_told_apart(tmp_path):
    for name in ("one/a.dcm", "two/a.dcm", "two/b.dcm", "three/c", "three/c.dcm"):
        save(data_set(), tmp_path / name)
    found = {sample.source_id: sample.filename for sample in samples(tmp_path)}
    assert found == {"b": "b.dcm", "one/a": "a.dcm", "two/a": "a.dcm", "three/c": "c", "three/c.dcm": "c.dcm"}


def test_what_holds_no_image_is_refused_with_its_kind(tmp_path):
    report = data_set(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    save(report, tmp_path / "report.dcm")
    assert "Basic Text SR" in refusal(tmp_path)
    assert "report.dcm" in refusal(tmp_path)


@pytest.mark.skipif(is_installed(), reason="the decoder is installed")
def test_a_missing_decoder_is_named_with_what_to_install(tmp_path):
    save(encapsulated([b"\xff\xd8" + bytes(20)], JPEGLSLossless, "RGB"), tmp_path / "a.dcm")
    answer = refusal(tmp_path)
    assert "JPEG-LS" in answer
    assert "python-gdcm" in answer


def test_a_video_within_dicom_is_refused(tmp_path):
    save(encapsulated([bytes(100)] * 3, MPEG2MPML, "RGB"), tmp_path / "a.dcm")
    assert "MPEG2" in refusal(tmp_path)


@pytest.mark.parametrize("form", ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless"])
@pytest.mark.parametrize("drawn", [picture, grey_picture])
def test_lossless_forms_are_decoded_apart_and_damage_there_is_refused_here(form, drawn, tmp_path):
    gdcm = pytest.importorskip("gdcm")
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(save(data_set(drawn()), tmp_path / "native")))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, form)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    path = tmp_path / "in" / "a.dcm"
    path.parent.mkdir()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    (sample,) = samples(path.parent)
    np.testing.assert_array_equal(rgb(sample.image), rgb(drawn() if drawn is picture else drawn()[..., None]))
    content = path.read_bytes()
    start = content.index(b"\xff\xd8\xff")
    path.write_bytes(content[: start + 4] + bytes(40) + content[start + 44 :])
    assert "a.dcm" in refusal(path.parent)


def test_a_folder_gives_the_label(tmp_path):
    save(data_set(), tmp_path / "Malignant" / "a.dcm")
    save(data_set(), tmp_path / "b.dcm")
    assert {sample.source_id: sample.label for sample in samples(tmp_path)} == {"a": "malignant", "b": ""}


# --- clips ---


def clip(count=11):
    return np.stack([np.roll(grey_picture(), shift, axis=1) for shift in range(count)])


@pytest.mark.parametrize("encoding", ["native", "encapsulated"])
def test_every_kth_frame_is_an_entry_and_the_clip_one_patient(encoding, tmp_path):
    header = data_set(clip(), FrameTime=40)
    if encoding == "encapsulated":
        header.compress(RLELossless)
    save(header, tmp_path / "scan.dcm")
    found = samples(tmp_path, every_frame=4)
    assert [sample.source_id for sample in found] == ["scan#0000", "scan#0004", "scan#0008"]
    for sample, number in zip(found, (0, 4, 8), strict=True):
        np.testing.assert_array_equal(sample.image[..., 0], clip()[number])
        assert sample.attributes["frame"] == number
        assert sample.attributes["frame_rate"] == 25
    assert len({sample.patient_id for sample in found}) == 1


def test_ids_of_a_long_clip_sort_as_its_frames(tmp_path):
    save(data_set(np.zeros((10_050, 1, 1), np.uint8)), tmp_path / "scan.dcm")
    numbers = [int(entry.source_id.partition("#")[2]) for entry in entries(tmp_path, every_frame=50)]
    assert numbers == list(range(0, 10_050, 50))


# --- masks ---


def write_mask(path, rows=ROWS, columns=COLUMNS):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(mask_of(rows, columns)))


@pytest.mark.parametrize("name", ["a_mask.png", "masks/a.png", "mask_a.png", "masks/a_mask.png", "a-seg.png"])
def test_a_mask_beside_a_still_is_its_own(name, tmp_path):
    save(data_set(), tmp_path / "a.dcm")
    save(data_set(), tmp_path / "b.dcm")
    write_mask(tmp_path / name)
    a, b = samples(tmp_path)
    np.testing.assert_array_equal(a.mask, mask_of() > 0)
    assert b.mask is None


@pytest.mark.parametrize("name", ["a_0010_mask.png", "masks/a_0010.png", "masks/a#0010.png", "masks/a_10.png"])
def test_a_mask_of_a_frame_is_that_frames(name, tmp_path):
    save(data_set(clip()), tmp_path / "a.dcm")
    write_mask(tmp_path / name)
    assert {sample.source_id: sample.mask is not None for sample in samples(tmp_path)} == {
        "a#0000": False,
        "a#0010": True,
    }


def test_a_frame_with_a_mask_is_taken_though_it_is_no_kth(tmp_path):
    save(data_set(clip()), tmp_path / "a.dcm")
    write_mask(tmp_path / "a_0003_mask.png")
    assert [sample.source_id for sample in samples(tmp_path)] == ["a#0000", "a#0003", "a#0010"]


def test_a_name_that_ends_in_a_number_is_first_a_files_own(tmp_path):
    save(data_set(clip()), tmp_path / "a.dcm")
    save(data_set(), tmp_path / "a_0010.dcm")
    write_mask(tmp_path / "a_0010_mask.png")
    assert {sample.source_id for sample in samples(tmp_path) if sample.mask is not None} == {"a_0010"}


def test_masks_of_equal_names_go_by_their_folders(tmp_path):
    for folder in ("benign", "malignant"):
        save(data_set(), tmp_path / folder / "a.dcm")
    write_mask(tmp_path / "malignant" / "a_mask.png")
    assert {sample.source_id: sample.mask is not None for sample in samples(tmp_path)} == {
        "benign/a": False,
        "malignant/a": True,
    }


@pytest.mark.parametrize(
    ("mask", "answer"),
    [
        ("other_mask.png", "no image of this mask's name"),
        ("a_mask.png", "does not tell its frame"),
        ("a_0099_mask.png", "mask of frame 99"),
    ],
)
def test_a_mask_of_nothing_is_said(mask, answer, tmp_path):
    save(data_set(clip()), tmp_path / "a.dcm")
    write_mask(tmp_path / mask)
    answers = []
    for entry in entries(tmp_path):
        try:
            entry.load()
        except DataError as problem:
            answers.append(str(problem))
    assert len(answers) == 1
    assert answer in answers[0]


# --- scale and field of view ---


def test_a_region_gives_spacing_and_field_of_view(tmp_path):
    header = data_set(SequenceOfUltrasoundRegions=[region((1, 2, 18, 12), (0.02, 0.03))], PixelSpacing=[9, 9])
    sample = load(header, tmp_path)
    assert sample.spacing_mm == pytest.approx((0.3, 0.2))
    assert sample.attributes["field_of_view"] == [1, 2, 18, 12]


def test_of_several_regions_the_largest_of_tissue_counts(tmp_path):
    regions = [
        region((0, 0, 20, 16), (1, 1), spatial_format=3, data_type=3),  # a spectrum
        region((0, 0, 4, 4), (0.5, 0.5)),
        region((5, 5, 10, 10), (0.01, 0.02)),
    ]
    sample = load(data_set(SequenceOfUltrasoundRegions=regions), tmp_path)
    assert sample.spacing_mm == pytest.approx((0.2, 0.1))
    assert sample.attributes["field_of_view"] == [5, 5, 10, 10]
    assert [each["data_type"] for each in sample.attributes["ultrasound_regions"]] == [3, 1, 1]
    assert sample.attributes["ultrasound_regions"][1]["box"] == [0, 0, 4, 4]


def test_a_region_over_one_edge_was_cropped_and_over_both_says_nothing(tmp_path):
    cropped = load(data_set(SequenceOfUltrasoundRegions=[region((2, 4, 19, 40))]), tmp_path)
    assert cropped.attributes["field_of_view"] == [2, 4, 18, 12]
    assert cropped.spacing_mm == pytest.approx((0.3, 0.2))
    shrunk = load(data_set(SequenceOfUltrasoundRegions=[region((2, 4, 36, 26))], PixelSpacing=[9, 9]), tmp_path)
    assert "field_of_view" not in shrunk.attributes
    assert shrunk.spacing_mm is None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, None),
        ({"PixelSpacing": [0.1, 0.2]}, (0.1, 0.2)),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, (0.1, 0.2)),
        ({"SequenceOfUltrasoundRegions": [region((0, 0, 20, 16), units=4)], "PixelSpacing": [0.1, 0.2]}, (0.1, 0.2)),
        ({"SequenceOfUltrasoundRegions": [region((0, 0, 20, 16), units=4)]}, None),
        ({"SequenceOfUltrasoundRegions": [region((0, 0, 20, 16), (0.02, 0))]}, None),
        ({"SequenceOfUltrasoundRegions": [region((0, 0, 20, 16), (float("nan"), 0.1))]}, None),
        ({"PixelSpacing": [0, 0.2]}, None),
        ({"PixelSpacing": [0.1]}, None),
    ],
)
def test_spacing_is_told_or_unknown(told, expected, tmp_path):
    sample = load(data_set(**told), tmp_path)
    assert sample.spacing_mm == (pytest.approx(expected) if expected else None)
    json.dumps(sample.attributes, allow_nan=False)


# --- privacy ---

SECRETS = {
    "PatientName": "Zwiebelkönig^Ludmilla^Ottokar",
    "PatientID": "QX-99231-77",
    "PatientBirthDate": "19310427",
    "AccessionNumber": "ACC5550123",
    "InstitutionName": "Krankenhaus Hinterwald",
    "InstitutionAddress": "Waldweg 17",
    "ReferringPhysicianName": "Quacksalber^Theophil",
    "OperatorsName": "Schallmeister^Irmgard",
    "OtherPatientIDs": "ALT-123456",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.777001",
    "StationName": "RAUM-SECHS",
    "StudyDate": "20190304",
    "PatientComments": "verwandt mit Zwiebelkönig",
    "DeviceSerialNumber": "SN-8675309",
    "StudyDescription": "Brust Ludmilla",
    "ManufacturerModelName": "Ludmilla Spezial",
}
TRACES = [
    *("zwiebelk", "ludmilla", "ottokar", "99231", "19310427", "5550123", "hinterwald", "waldweg", "quacksalber"),
    *("theophil", "schallmeister", "irmgard", "123456", "777001", "raum", "20190304", "8675309", "brust"),
]


@pytest.mark.parametrize(
    "name",
    [
        "scan.dcm",
        "Zwiebelkoenig_L_01.dcm",
        "LUDMILLA/img.dcm",
        "QX9923177.dcm",
        "x/19310427-1.dcm",
        "1.2.826.0.1.3680043.8.498.777001",
        "zwiebelkonig",
    ],
)
def test_nothing_that_names_a_patient_leaves_the_reader(name, tmp_path):
    for number, kind in enumerate((data_set(), data_set(clip(), SOPInstanceUID="1.2.3.4.5.6.7"))):
        for keyword, value in SECRETS.items():
            setattr(kind, keyword, value)
        kind.add_new(0x00091010, "LO", "Ludmilla in private")
        save(kind, tmp_path / "in" / str(number) / name)
    write_mask(tmp_path / "in" / "0" / "masks" / f"{name.removesuffix('.dcm').split('/')[-1]}.png", 5, 5)
    (tmp_path / "in" / "Ludmilla.dcm").write_bytes(b"cut short")
    found = entries(tmp_path / "in")
    records = write_records(found, tmp_path / "out", DataSetSettings(), workers=1)
    assert len(records.index) >= 2
    assert records.manifest["refused"]
    texts = [path.read_bytes().decode(errors="replace") for path in (tmp_path / "out").iterdir()]
    for entry in found:
        try:
            sample = entry.load()
        except DataError as problem:
            texts.append(str(problem))
            continue
        texts.append(
            json.dumps([sample.source_id, sample.patient_id, sample.label, sample.filename, sample.attributes])
        )
    seen = [trace for trace in TRACES for text in texts if trace in text.lower()]
    assert seen == []


def test_a_name_that_tells_nothing_is_kept(tmp_path):
    sample = load(data_set(PatientName="Zwiebelkönig^Ludmilla", PatientID="12"), tmp_path)
    assert (sample.source_id, sample.filename) == ("a", "a.dcm")


names = st.text(st.sampled_from("abcäöüßéøCDE"), min_size=3, max_size=8)


@given(names, st.text(st.sampled_from("abc_- 12"), max_size=6), st.text(st.sampled_from("abc_- 12"), max_size=6))
def test_a_name_is_found_within_any_text(name, before, after):
    text = f"{before}{name.upper()}{after}"
    hidden = hidden_name(text, Identities([name], []), b"salt")
    assert hidden != text
    assert hidden == hidden_name(text, Identities([name], []), b"salt")


@pytest.mark.parametrize(
    ("number", "text", "held"),
    [
        ("204", "scan_204", True),
        ("204", "scan204", True),
        ("0204", "scan_0204.dcm", True),
        ("7", "007", True),
        ("204", "scan_1204", False),
        ("12", "image_0012", True),
        ("AB-12-34", "ab1234_x", True),
        ("123456", "x1234567", True),
    ],
)
def test_a_number_is_found_however_it_is_written_and_a_short_one_as_a_word(number, text, held):
    assert Identities([], [number]).held_by(text) is held


def patients(root, **changes):
    return {sample.source_id: sample.patient_id for sample in samples(root, **changes)}


def test_images_of_one_patient_stay_together(tmp_path):
    save(data_set(PatientID="1", SOPInstanceUID="1.1"), tmp_path / "a.dcm")
    save(data_set(PatientID="1", SOPInstanceUID="1.2"), tmp_path / "b.dcm")
    save(data_set(PatientID="1", IssuerOfPatientID="elsewhere", SOPInstanceUID="1.3"), tmp_path / "c.dcm")
    save(data_set(PatientID="", PatientName="Doe^J", PatientBirthDate="19500101"), tmp_path / "d.dcm")
    save(data_set(PatientID="", PatientName="Doe^J", PatientBirthDate="19500101"), tmp_path / "e.dcm")
    save(data_set(PatientID="", PatientName="Doe^J", PatientBirthDate="19600101"), tmp_path / "f.dcm")
    save(data_set(PatientID="", StudyInstanceUID="9.1"), tmp_path / "g.dcm")
    save(data_set(PatientID="", StudyInstanceUID="9.1"), tmp_path / "h.dcm")
    found = patients(tmp_path)
    assert found["a"] == found["b"] == found["c"]  # who gave a number is often left out
    assert found["d"] == found["e"]
    assert found["g"] == found["h"]
    assert len(set(found.values())) == 4


def test_a_name_is_one_patients_however_it_is_written(tmp_path):
    save(data_set(PatientID="", PatientName="Doe^J", PatientBirthDate="19500101"), tmp_path / "a.dcm")
    save(data_set(PatientID="", PatientName="DOE^j", PatientBirthDate="19500101"), tmp_path / "b.dcm")
    assert len(set(patients(tmp_path).values())) == 1


def test_the_salt_decides_what_a_patient_is_called(tmp_path):
    (tmp_path / "salt").write_text("a secret\n")
    (tmp_path / "salt2").write_text("another")
    for name, uid in (("one", "1.1"), ("two", "1.2")):
        save(data_set(SOPInstanceUID=uid), tmp_path / name / "a.dcm")
    told, other = ({"dicom": {"salt_file": str(tmp_path / name)}} for name in ("salt", "salt2"))
    assert patients(tmp_path / "one", **told) == patients(tmp_path / "two", **told)
    assert patients(tmp_path / "one", **told) != patients(tmp_path / "one", **other)
    assert patients(tmp_path / "one") == patients(tmp_path / "one")
    assert patients(tmp_path / "one") != patients(tmp_path / "two")


@pytest.mark.parametrize(("content", "answer"), [(None, "cannot be read"), (b" \n", "empty")])
def test_a_salt_file_without_a_salt_is_answered(content, answer, tmp_path):
    if content is not None:
        (tmp_path / "salt").write_bytes(content)
    save(data_set(), tmp_path / "in" / "a.dcm")
    with pytest.raises(DataError, match=answer):
        entries(tmp_path / "in", dicom={"salt_file": str(tmp_path / "salt")})


def test_only_what_is_listed_becomes_an_attribute(tmp_path):
    told = {"Manufacturer": "Maker", "ManufacturerModelName": "M1", "TransducerData": ["L12-5", "UNUSED"]}
    sample = load(data_set(BurnedInAnnotation="YES", **told), tmp_path)
    assert sample.attributes == {
        "modality": "US",
        "device": "Maker M1",
        "transducer": "L12-5",
        "burned_in_annotation": "YES",
    }


# --- damage ---


def test_a_bad_file_is_refused_and_the_others_go_on(tmp_path):
    save(data_set(), tmp_path / "good.dcm")
    content = (tmp_path / "good.dcm").read_bytes()
    (tmp_path / "short.dcm").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.dcm").write_text("no picture at all")
    (tmp_path / "empty.dcm").write_bytes(b"")
    answers = {}
    for entry in entries(tmp_path):
        try:
            answers[entry.source_id] = entry.load().image.shape
        except DataError as problem:
            answers[entry.source_id] = str(problem)
    assert answers["good"] == (ROWS, COLUMNS, 3)
    for name in ("short", "text", "empty"):
        assert f"{name}.dcm" in answers[name]


@pytest.mark.parametrize(
    ("told", "answer"),
    [
        ({"Rows": 60_000, "Columns": 60_000}, "64,000,000 pixels"),
        ({"NumberOfFrames": 10**9}, "100,000 frames"),
        ({"NumberOfFrames": 90_000}, "cut short"),
        ({"NumberOfFrames": -3}, "100,000 frames"),
        ({"Rows": 17}, "cut short"),
        ({"Rows": 0}, "found none"),
        ({"PhotometricInterpretation": "ARGB"}, "ARGB"),
        ({"Modality": "SEG"}, "a segmentation"),
    ],
)
def test_sizes_that_cannot_be_are_refused_without_taking_memory(told, answer, tmp_path):
    save(data_set(**told), tmp_path / "a.dcm")
    refusal(tmp_path)  # what is loaded once stays
    tracemalloc.start()
    try:
        assert answer in refusal(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_raw_data_beside_the_image_is_not_read(tmp_path):
    header = data_set()
    header.add_new(0x00190010, "LO", "A MAKER")
    header.add_new(0x00191001, "OB", bytes(40_000_000))
    save(header, tmp_path / "a.dcm")
    samples(tmp_path)  # what is loaded once stays
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(samples(tmp_path)[0].image, picture())
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_code_stream_of_another_size_is_refused(tmp_path):
    save(encapsulated([jpeg(picture())], JPEGBaseline8Bit, "YBR_FULL", Rows=20, Columns=16), tmp_path / "a.dcm")
    assert "20 × 16" in refusal(tmp_path)


def test_a_deflated_bomb_is_refused(tmp_path, monkeypatch):
    from ustoolkit.data.readers import dicom_files

    header = in_syntax(DeflatedExplicitVRLittleEndian)
    header.PixelData = bytes(4_000_000)
    save(header, tmp_path / "a.dcm")
    assert (tmp_path / "a.dcm").stat().st_size < 20_000
    assert samples(tmp_path)
    monkeypatch.setattr(dicom_files, "LARGEST_INFLATED_BYTES", 1_000_000)
    assert "1,000,000 bytes" in refusal(tmp_path)


def test_damaged_deflation_is_refused(tmp_path):
    save(in_syntax(DeflatedExplicitVRLittleEndian), tmp_path / "a.dcm")
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(content[:-40] + zlib.compress(b"else")[:40])
    assert "a.dcm" in refusal(tmp_path)


def test_sequences_without_end_are_refused(tmp_path):
    content = save(data_set(), tmp_path / "a.dcm").read_bytes()
    place = content.index(b"\x28\x00\x02\x00")  # before the image's elements
    deep = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20_000
    (tmp_path / "a.dcm").write_bytes(content[:place] + deep + content[place:])
    assert "a.dcm" in refusal(tmp_path)


KINDS = {
    "native": data_set,
    "palette": lambda: data_set(
        grey_picture(),
        PhotometricInterpretation="PALETTE COLOR",
        SequenceOfUltrasoundRegions=[region((0, 0, 20, 16))],
        **{f"{name}PaletteColorLookupTableDescriptor": [256, 0, 8] for name in ("Red", "Green", "Blue")},
        **{f"{name}PaletteColorLookupTableData": bytes(range(256)) for name in ("Red", "Green", "Blue")},
    ),
    "window": lambda: data_set(
        grey_picture().astype(np.uint16), WindowCenter=100, WindowWidth=200, PixelSpacing=[1, 2]
    ),
    "jpeg": lambda: encapsulated([jpeg(picture())] * 3, JPEGBaseline8Bit, "YBR_FULL"),
    "jpeg 2000": lambda: encapsulated([jpeg_2000(picture(), True)], JPEG2000Lossless, "YBR_RCT"),
    "run lengths": run_length_encoded,
    "deflated": lambda: in_syntax(DeflatedExplicitVRLittleEndian),
    "big endian": lambda: in_syntax(ExplicitVRBigEndian),
}


@st.composite
def damage(draw):
    """Some bytes changed, and now and then the end cut off."""
    changes = draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6))
    return changes, draw(st.one_of(st.just(1.0), st.floats(0, 1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error")
def test_a_damaged_file_is_read_or_refused(kind, tmp_path, caplog):
    path = save(KINDS[kind](), tmp_path / "a.dcm")
    whole = path.read_bytes()
    seen = collections.Counter()

    @given(damage())
    @settings(deadline=None, max_examples=100, database=None)
    def check(how):
        changed = bytearray(whole)
        for place, value in how[0]:
            changed[int(place * len(changed))] = value
        path.write_bytes(changed[: round(how[1] * len(changed))])
        try:
            for entry in entries(tmp_path):
                json.dumps(entry.load().attributes, allow_nan=False)
                seen["read"] += 1
        except UstoolkitError as problem:
            assert str(problem)
            seen["refused"] += 1

    check()
    assert seen["read"]
    assert seen["refused"]
    assert caplog.records == []


# --- real files ---


@pytest.mark.data
def test_real_files_are_what_pydicom_decodes(real_data):
    found = samples(real_data / "dicom")
    assert len(found) == 11
    for sample in found:
        name, _, frame = sample.source_id.partition("#")
        path = real_data / "dicom" / f"{name}.dcm"
        header = pydicom.dcmread(path)
        expected = pixel_array(path, index=int(frame or 0))
        if header.PhotometricInterpretation == "PALETTE COLOR":
            expected = apply_color_lut(expected, header) >> 8
        np.testing.assert_array_equal(rgb(sample.image), expected)


@pytest.mark.data
def test_real_files_say_their_scale_and_keep_patients_together(real_data):
    found = {sample.source_id: sample for sample in samples(real_data / "dicom")}
    assert detect(real_data / "dicom") == "dicom"
    assert found["examples_palette"].spacing_mm == pytest.approx((0.26229, 0.26229), abs=1e-5)
    assert found["gdcm-US-ALOKA-16"].attributes["field_of_view"] == [32, 24, 304, 392]
    assert found["examples_ybr_color#0010"].spacing_mm is None  # made smaller, its regions were left as they were
    together = ("US1_J2KI", "US1_J2KR", "US1_UNCI", "US1_UNCR", "examples_rgb_color")
    assert len({found[name].patient_id for name in together}) == 1
    assert len({sample.patient_id for sample in found.values()}) == 4
