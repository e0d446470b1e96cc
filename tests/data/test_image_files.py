"""Whatever a tool has saved becomes the right pixels, or a message that names the file."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy
from PIL import Image

from ustoolkit.data import image_files
from ustoolkit.data.image_files import decode_png, encode_png, find_images, read_image, read_mask
from ustoolkit.data.mask_values import colour_table
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

TRUTH = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]], np.uint8)
GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)


def saved(path, pixels, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def palette(values, colours):
    image = Image.fromarray(values)
    image.putpalette(colours)
    assert image.mode == "P"
    return image


MASKS = {
    "0 and 1": TRUTH,
    "0 and 255": TRUTH * 255,
    "0 and 128": TRUTH * 128,
    "1 bit": Image.fromarray(TRUTH * 255).convert("1"),
    "palette": palette(TRUTH, [0, 0, 0, 128, 0, 0]),
    "grey with transparency": Image.fromarray(TRUTH * 255).convert("LA"),
    "RGB grey": Image.fromarray(TRUTH * 255).convert("RGB"),
    "RGBA grey": Image.fromarray(TRUTH * 255).convert("RGBA"),
    "16 bit": TRUTH.astype(np.uint16) * 65535,
    "16 bit 0 and 1": TRUTH.astype(np.uint16),
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_spelling_of_a_mask_means_the_same(tmp_path, kind, suffix):
    mask = read_mask(saved(tmp_path / f"mask{suffix}", MASKS[kind]))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, TRUTH)


@pytest.mark.parametrize(("value", "meaning"), [(0, 0), (1, 1), (255, 1)])
def test_a_mask_of_one_value(tmp_path, value, meaning):
    mask = read_mask(saved(tmp_path / "mask.png", np.full((3, 4), value, np.uint8)))
    np.testing.assert_array_equal(mask, np.full((3, 4), meaning))


def test_class_indices_are_kept(tmp_path):
    classes = (np.arange(12, dtype=np.uint8) % 4).reshape(3, 4)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "a.png", classes), num_classes=4), classes)
    indexed = palette(classes, [0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "b.png", indexed), num_classes=4), classes)


def test_values_that_are_no_classes_are_named(tmp_path):
    path = saved(tmp_path / "mask.png", np.array([[0, 1, 7, 9]], np.uint8))
    with pytest.raises(DataError, match=r"values 0 to 1, or 0 and 255, found 0, 1, 7, 9\.") as problem:
        read_mask(path)
    assert str(path) in str(problem.value)


def test_of_many_values_the_first_are_named(tmp_path):
    path = saved(tmp_path / "mask.png", np.arange(100, dtype=np.uint8).reshape(10, 10))
    with pytest.raises(DataError, match=r"found 0, 1, 2, 3, 4, 5, 6, 7, …\."):
        read_mask(path)


def test_two_values_are_no_lesion_where_there_are_more_classes(tmp_path):
    with pytest.raises(DataError, match="values 0 to 2"):
        read_mask(saved(tmp_path / "mask.png", TRUTH * 255), num_classes=3)


DISC = ((np.mgrid[:64, :64] - 30.5) ** 2).sum(0) < 18**2


@pytest.mark.parametrize("quality", [30, 60, 90])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_black_and_white_jpeg_is_cut_where_it_is_half_bright(tmp_path, quality, mode):
    image = Image.fromarray((DISC * 255).astype(np.uint8)).convert(mode)
    path = saved(tmp_path / "mask.jpg", image, quality=quality)
    assert len(np.unique(np.asarray(Image.open(path)))) > 2
    np.testing.assert_array_equal(read_mask(path), DISC)


@pytest.mark.parametrize(
    "pixels",
    [
        np.random.default_rng(0).rayleigh(25, (64, 64)).clip(0, 255),
        (DISC * 1 + (np.arange(64) > 40) * 2) * 60,
        DISC * 90,
        np.linspace(0, 255, 64 * 64).reshape(64, 64),
    ],
    ids=["an ultrasound image", "class indices, stretched", "grey", "a ramp"],
)
def test_a_jpeg_that_is_not_black_and_white_is_no_mask(tmp_path, pixels):
    with pytest.raises(DataError, match="JPEG blurs their edges"):
        read_mask(saved(tmp_path / "mask.jpg", pixels.astype(np.uint8), quality=60))


def test_a_blurred_png_is_refused_since_its_values_may_be_classes(tmp_path):
    with pytest.raises(DataError, match="values 0 to 1, or 0 and 255, found 0, 1, 255"):
        read_mask(saved(tmp_path / "mask.png", np.array([[0, 1, 255] * 20] * 20, np.uint8)))


RED, GREEN, WHITE = (255, 0, 0), (0, 128, 0), (255, 255, 255)


def coloured(values, *colours):
    return np.array(colours, np.uint8)[values]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("colour", [RED, GREEN, (1, 0, 0), (0, 0, 255)])
def test_black_and_one_colour_need_no_table(tmp_path, mode, colour):
    image = Image.fromarray(coloured(TRUTH, (0, 0, 0), colour))
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "mask.png", image)), TRUTH)


THREE = (np.arange(12, dtype=np.uint8) % 3).reshape(3, 4)
TABLE = ((GREEN, 1), (RED, 2))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_mean_what_the_table_says(tmp_path, mode):
    image = Image.fromarray(coloured(THREE, (0, 0, 0), GREEN, RED)).convert("RGB")
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "mask.png", image), 3, TABLE), THREE)


def test_black_may_be_a_class_and_grey_indices_stay_indices(tmp_path):
    inverted = ((WHITE, 0), ((0, 0, 0), 1))
    path = saved(tmp_path / "mask.png", coloured(TRUTH, WHITE, (0, 0, 0)))
    np.testing.assert_array_equal(read_mask(path, 2, inverted), TRUTH)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "grey.png", THREE), 3, TABLE), THREE)


def test_a_colour_that_is_not_in_the_table_is_named_with_its_pixels(tmp_path):
    pixels = coloured(THREE, (0, 0, 0), GREEN, RED)
    pixels[0, 0], pixels[1, :2] = (9, 8, 7), (1, 2, 3)
    path = saved(tmp_path / "mask.png", pixels)
    with pytest.raises(DataError, match=r"found also \[1, 2, 3\] on 2 pixels, \[9, 8, 7\] on 1 pixels") as problem:
        read_mask(path, 3, TABLE)
    assert str(path) in str(problem.value) and "without smoothing" in str(problem.value)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_colours_without_a_table_are_refused_with_the_remedy(tmp_path, num_classes):
    path = saved(tmp_path / "mask.png", coloured(THREE, (0, 0, 0), GREEN, RED))
    with pytest.raises(DataError, match=r"\[0, 128, 0\] on 4 pixels.*Say under \[colours\]") as problem:
        read_mask(path, num_classes)
    assert str(path) in str(problem.value)


def test_one_colour_all_over_is_refused_since_nothing_tells_what_it_is(tmp_path):
    with pytest.raises(DataError, match=r"\[255, 0, 0\] on 12 pixels"):
        read_mask(saved(tmp_path / "mask.png", coloured(TRUTH * 0, RED)))


def test_two_classes_of_one_colour_are_refused():
    settings = DataSetSettings(classes=("background", "a", "b"), colours={"a": RED, "b": RED})
    with pytest.raises(DataError, match=r"found \[255, 0, 0\] for both 'a' and 'b'"):
        colour_table(settings)
    good = DataSetSettings(classes=("background", "a", "b"), colours={"b": RED, "a": GREEN})
    assert set(colour_table(good)) == set(TABLE)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("grey", [0, 255])
def test_a_mask_in_the_transparency_alone_is_refused(tmp_path, mode, grey):
    image = Image.fromarray(np.full((3, 4), grey, np.uint8)).convert(mode)
    image.putalpha(Image.fromarray(TRUTH * 255))
    with pytest.raises(DataError, match="in the transparency alone"):
        read_mask(saved(tmp_path / "mask.png", image))


def test_transparency_over_a_drawn_mask_is_ignored(tmp_path):
    image = Image.fromarray(TRUTH * 255).convert("RGBA")
    image.putalpha(Image.fromarray((GREY + 1).astype(np.uint8)))
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "mask.png", image)), TRUTH)


@pytest.mark.parametrize(("value", "reason"), [(0.5, "fractions"), (np.nan, "no number"), (np.inf, "no number")])
def test_a_mask_of_what_is_no_whole_number_is_refused(tmp_path, value, reason):
    with pytest.raises(DataError, match=reason):
        read_mask(saved(tmp_path / "mask.tif", np.array([[0.0, value]], np.float32)))


def test_float_and_16_bit_class_indices_are_kept(tmp_path):
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "a.tif", THREE.astype(np.float32)), 3), THREE)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "b.png", THREE.astype(np.uint16)), 3), THREE)
    with pytest.raises(DataError, match="found 0, 1, 300"):
        read_mask(saved(tmp_path / "c.png", np.array([[0, 1, 300]], np.uint16)), 3)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_grey_images_have_one_channel_however_they_are_saved(tmp_path, mode):
    image = read_image(saved(tmp_path / "image.png", Image.fromarray(GREY).convert(mode)))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, GREY[..., np.newaxis])


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_kept(tmp_path, mode):
    image = read_image(saved(tmp_path / "image.png", Image.fromarray(COLOUR).convert(mode)))
    np.testing.assert_array_equal(image, COLOUR)


def test_a_one_bit_image_spans_the_whole_range(tmp_path):
    image = read_image(saved(tmp_path / "image.png", MASKS["1 bit"]))
    np.testing.assert_array_equal(image[..., 0], TRUTH * 255)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, suffix):
    image = read_image(saved(tmp_path / f"image{suffix}", GREY.astype(np.uint16) * 257))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[..., 0], GREY)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[-5, 7]], np.int32), "found -5 to 7"),
        (np.array([[0, 70_000]], np.int32), "found 0 to 70000"),
        (np.array([[0.0, 0.25]], np.float32), "found fractions"),
        (np.array([[0.0, np.nan]], np.float32), "found nan"),
    ],
)
def test_values_that_would_be_lost_in_eight_bits_are_refused(tmp_path, values, reason):
    with pytest.raises(DataError, match=reason):
        read_image(saved(tmp_path / "image.tif", values))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_held_sideways_is_turned_upright_and_so_is_its_mask(tmp_path, orientation):
    upright = np.zeros((24, 40), np.uint8)
    upright[2:10, 4:30] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    # as a camera stores it: the inverse of what a viewer does to show it
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    stored = np.ascontiguousarray(undo(upright))
    photograph = read_image(saved(tmp_path / "photo.jpg", stored, exif=exif.tobytes(), quality=95))
    assert photograph.shape == (24, 40, 1)
    np.testing.assert_array_equal(photograph[..., 0] > 127, upright > 0)
    mask = read_mask(saved(tmp_path / "mask.png", stored, exif=exif.tobytes()))
    np.testing.assert_array_equal(mask, upright > 0)


def png_claiming(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def a_png():
    noise = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
    return encode_png(noise)


def tiff_claiming(count):
    """A TIFF whose strip offsets claim `count` entries."""
    tags = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, count, 8), (279, 4, count, 8)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)


BROKEN = {
    "a program": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "expected an image, found something"),
    "absurd tags": (lambda: tiff_claiming(2**31), "damaged or cut short|something else"),
    "cut short": (lambda: a_png()[:600], "damaged or cut short"),
    "cut in its header": (lambda: a_png()[:20], "damaged or cut short|something else"),
    "no image": (lambda: b"Patient: A. B.\n", "expected an image, found something else"),
    "empty": (lambda: b"", "expected an image, found something else"),
    "a bomb": (lambda: png_claiming(60_000, 60_000), "expected at most 64,000,000 pixels"),
    "too large": (
        lambda: png_claiming(9_000, 8_000),
        "expected at most 64,000,000 pixels, found 9000 × 8000",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_what_is_no_image_is_named(tmp_path, kind, read):
    make, reason = BROKEN[kind]
    path = tmp_path / "scan 7.png"
    path.write_bytes(make())
    with pytest.raises(DataError, match=reason) as problem:
        read(path)
    assert str(path) in str(problem.value)


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_a_missing_file_and_a_folder_are_named(tmp_path, read):
    with pytest.raises(DataError, match=r"nothing\.png: no such file"):
        read(tmp_path / "nothing.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder\.png"):
        read(tmp_path / "folder.png")


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png: expected an image, found no file"):
        read(tmp_path / "pipe.png")
    assert find_images(tmp_path) == []


def test_colours_for_print_and_big_endian_values_are_read(tmp_path):
    path = tmp_path / "scan.tif"
    Image.new("CMYK", (4, 3), (0, 255, 255, 0)).save(path)
    np.testing.assert_array_equal(read_image(path), np.full((3, 4, 3), RED))
    path.write_bytes(tiff_16_bit_big_endian())
    np.testing.assert_array_equal(read_image(path)[..., 0], GREY)


def tiff_16_bit_big_endian():
    tags = [(256, 3, 4), (257, 3, 3), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 200), (278, 3, 3), (279, 4, 24)]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in tags
    )
    start = b"MM\0*" + struct.pack(">IH", 8, len(tags)) + entries + struct.pack(">I", 0)
    return start.ljust(200, b"\0") + (GREY.astype(">u2") * 257).tobytes()


def test_the_largest_size_still_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "LARGEST_PIXELS", 12)
    path = saved(tmp_path / "image.png", GREY)
    assert read_image(path).shape == (3, 4, 1)
    monkeypatch.setattr(image_files, "LARGEST_PIXELS", 11)
    with pytest.raises(DataError, match="found 4 × 3"):
        read_image(path)


def test_a_wrong_suffix_does_not_matter(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(encode_png(GREY))
    np.testing.assert_array_equal(read_image(path)[..., 0], GREY)


def pictures():
    sides = st.tuples(st.integers(1, 9), st.integers(1, 9))
    shapes = st.one_of(
        sides,
        sides.map(lambda side: (*side, 1)),
        sides.filter(lambda s: s != (1, 1)).map(lambda side: (*side, 3)),
    )
    return hypothesis_numpy.arrays(np.uint8, shapes)


@given(pictures())
@settings(deadline=None, max_examples=150)
def test_png_loses_nothing(pixels):
    content = encode_png(pixels)
    expected = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    decoded = decode_png(content)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, expected)
    assert encode_png(pixels) == content
    assert Image.open(io.BytesIO(content)).format == "PNG"


def test_png_takes_arrays_that_lie_in_memory_in_other_ways():
    np.testing.assert_array_equal(decode_png(encode_png(COLOUR[::-1, ::2])), COLOUR[::-1, ::2])
    np.testing.assert_array_equal(decode_png(encode_png(GREY.T)), GREY.T)


def test_images_are_found_by_suffix_sorted_and_hidden_ones_left_out(tmp_path):
    for name in ("b.PNG", "a.jpeg", "sub/c.tif", "notes.txt", ".hidden.png", ".cache/d.png", "e.png.bak"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == [
        "a.jpeg",
        "b.PNG",
        "sub/c.tif",
    ]


def test_a_hidden_folder_above_the_root_hides_nothing(tmp_path):
    root = tmp_path / ".scratch"
    root.mkdir()
    (root / "a.png").write_bytes(b"")
    assert len(find_images(root)) == 1


def test_a_palette_of_greys_counts_by_its_greys_in_whatever_order(tmp_path):
    white_first = palette((1 - TRUTH).astype(np.uint8), [255, 255, 255, 0, 0, 0])
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "mask.png", white_first)), TRUTH)


def test_a_mask_of_a_class_that_the_data_set_does_not_have_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"mask\.png: expected a mask with values 0 to 1, or 0 and 255, found 0, 2"):
        read_mask(saved(tmp_path / "mask.png", (2 * TRUTH).astype(np.uint8)))


def test_ten_bits_in_sixteen_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(DataError, match="Scale the values to the full range"):
        read_image(saved(tmp_path / "image.png", GREY.astype(np.uint16) * 4))
