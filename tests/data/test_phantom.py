"""Phantoms: the same for the same seed, physically plausible, and written whole or not at all."""

import csv
import itertools
import subprocess
import sys

import cv2
import numpy as np
import pytest

from ustoolkit.data import phantom
from ustoolkit.data.phantom import phantom_samples, write_phantoms
from ustoolkit.data.phantom_scan import NOMINAL_ATTENUATION, Grid, Tissue, centre_frequency_mhz, envelope
from ustoolkit.data.phantom_scanner import SCANNERS
from ustoolkit.errors import DataError, OutputError

SPECKLE_SIGNAL_TO_NOISE = np.sqrt(np.pi / (4 - np.pi))  # of a Rayleigh distribution, 1.91


@pytest.fixture(scope="module")
def samples():
    return list(phantom_samples(120, seed=3, size=(128, 128)))


def test_kth_phantom_does_not_depend_on_count(samples):
    for sample, again in zip(samples, phantom_samples(4, seed=3, size=(128, 128)), strict=False):
        assert sample.source_id == again.source_id
        assert sample.attributes == again.attributes
        np.testing.assert_array_equal(sample.image, again.image)
        np.testing.assert_array_equal(sample.mask, again.mask)


def test_another_seed_gives_other_phantoms(samples):
    other = next(phantom_samples(1, seed=4, size=(128, 128)))
    assert not np.array_equal(samples[0].image, other.image)


@pytest.mark.parametrize("size", [(256, 256), (96, 160), (32, 32)])
@pytest.mark.parametrize("frame", [False, True])
def test_sizes_and_types(size, frame):
    for sample in phantom_samples(2, size=size, frame=frame):
        assert sample.image.shape == (*size, 1)
        assert sample.image.dtype == np.uint8
        assert sample.mask.shape == size
        assert sample.mask.dtype == np.uint8
        assert set(np.unique(sample.mask)) == {0, 1}


def test_lesions_vary_in_size_and_place(samples):
    areas = np.array([sample.mask.mean() for sample in samples])
    assert areas.min() > 0.003
    assert areas.max() < 0.3
    assert areas.max() > 0.12
    assert 0.03 < np.mean(areas < 0.02) < 0.4
    middles = np.array([np.argwhere(sample.mask).mean(axis=0) for sample in samples])
    assert (np.ptp(middles, axis=0) > 40).all()


def test_each_lesion_is_one_piece(samples):
    for sample in samples:
        count, _, statistics, _ = cv2.connectedComponentsWithStats(sample.mask)
        assert statistics[1:count, cv2.CC_STAT_AREA].max() > 0.97 * sample.mask.sum(), sample.source_id


def test_a_third_of_patients_is_malignant():
    labels = {sample.patient_id: sample.label for sample in phantom_samples(160, size=(32, 32))}
    assert set(labels.values()) == {"benign", "malignant"}
    assert 0.2 < np.mean([label == "malignant" for label in labels.values()]) < 0.5


def test_images_of_a_patient_agree_in_all_but_the_plane(samples):
    sizes = set()
    for _, group in itertools.groupby(samples[:-3], key=lambda sample: sample.patient_id):
        images = list(group)
        sizes.add(len(images))
        assert len({(image.label, image.spacing_mm, image.attributes["device"]) for image in images}) == 1
        assert len({image.image.tobytes() for image in images}) == len(images)
    assert sizes == {1, 2, 3}


def test_spacing_covers_the_depth(samples):
    for sample in samples:
        assert sample.spacing_mm[0] * 128 == pytest.approx(sample.attributes["depth_mm"])
        assert 30 <= sample.attributes["depth_mm"] <= 60
        extents = sample.attributes["lesion_height_mm"], sample.attributes["lesion_width_mm"]
        assert max(extents) <= sample.attributes["lesion_long_mm"] + 0.01 <= np.hypot(*extents) + 0.02
    assert {sample.attributes["device"] for sample in samples} == {scanner.name for scanner in SCANNERS}


def test_benign_lesions_are_wider_than_tall_and_malignant_ones_taller(samples):
    ratio = {"benign": [], "malignant": []}
    for sample in samples:
        attributes = sample.attributes
        ratio[sample.label].append(attributes["lesion_height_mm"] / attributes["lesion_width_mm"])
    assert np.mean(ratio["benign"]) < 0.85
    assert np.mean(ratio["malignant"]) > 1.05


def test_sound_is_enhanced_below_benign_and_lost_below_malignant_lesions(samples):
    contrast = {"benign": [], "malignant": []}
    for sample in samples:
        below = _contrast_below(sample)
        if below is not None:
            contrast[sample.label].append(below)
    assert min(len(values) for values in contrast.values()) > 15
    assert np.mean(contrast["benign"]) > 8
    assert np.mean(contrast["malignant"]) < -15


def test_no_threshold_segments(samples):
    """The darkest pixels are not the lesion: fat, muscle and shadow are as dark."""
    best = []
    for sample in samples[:40]:
        smooth = cv2.GaussianBlur(sample.image[:, :, 0], (0, 0), 2)
        overlaps = []
        for level in range(10, 160, 10):
            dark = smooth < level
            overlaps.append(2 * np.sum(dark & (sample.mask == 1)) / (dark.sum() + sample.mask.sum()))
        best.append(max(overlaps))
    assert np.mean(best) < 0.7


def test_homogeneous_tissue_has_rayleigh_speckle():
    grid, echoes = _homogeneous(SCANNERS[0])
    upper = echoes[grid.rows // 10 : grid.rows // 2]
    assert upper.mean() / upper.std() == pytest.approx(SPECKLE_SIGNAL_TO_NOISE, rel=0.03)
    assert np.mean(upper**2) == pytest.approx(1, rel=0.1)


def test_compounding_smooths_speckle():
    _, echoes = _homogeneous(SCANNERS[2])
    upper = echoes[: len(echoes) // 2]
    assert upper.mean() / upper.std() == pytest.approx(np.sqrt(2) * SPECKLE_SIGNAL_TO_NOISE, rel=0.05)


def test_speckle_is_widest_away_from_the_focus():
    grid, echoes = _homogeneous(SCANNERS[1], focus_mm=12.0)
    near_focus, deep = (_lateral_correlation(echoes[_row(grid, z) : _row(grid, z + 4)]) for z in (10, 34))
    assert deep > near_focus + 0.05


def test_a_shadow_is_as_deep_as_the_attenuation_integrated_over_the_lesion():
    scanner, excess = SCANNERS[1], 0.6

    def with_absorber(tissue, grid):
        tissue.attenuation[_row(grid, 10) : _row(grid, 18), grid.lines // 2 :] += excess

    grid, echoes = _homogeneous(scanner, change=with_absorber)
    below = echoes[_row(grid, 19) : _row(grid, 28)]
    quarter = grid.inside // 4
    loss_db = 10 * np.log10(np.mean(below[:, :quarter] ** 2) / np.mean(below[:, -quarter:] ** 2))
    expected_db = 2 * excess * 0.8 * float(centre_frequency_mhz(np.array(14.0), scanner))
    assert loss_db == pytest.approx(expected_db, abs=0.7)


def test_frame_surrounds_the_same_scan():
    sample = next(phantom_samples(1, seed=5, frame=True))
    image = sample.image[:, :, 0]
    rows, columns = phantom.scan_area(image.shape)
    assert sample.mask[rows, columns].sum() == sample.mask.sum()
    border = np.ones(image.shape, bool)
    border[rows, columns] = False
    assert np.mean(image[border] == 0) > 0.7
    assert image[border].max() > 150


def test_calipers_mark_some_of_the_framed_lesions():
    framed = list(phantom_samples(12, frame=True))
    marked = [sample for sample in framed if sample.attributes["calipers"]]
    assert 0 < len(marked) < len(framed)
    for sample in marked:
        near = cv2.dilate(sample.mask, np.ones((9, 9), np.uint8)) == 1
        assert sample.image[near].max() == 255
    assert not any(sample.attributes["calipers"] for sample in phantom_samples(4))


@pytest.mark.parametrize("frame", [False, True])
def test_written_folder_reads_back(tmp_path, frame):
    out = write_phantoms(tmp_path / "phantoms", 3, seed=9, size=(64, 64), frame=frame)
    with (out / "phantoms.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    for row, sample in zip(rows, phantom_samples(3, seed=9, size=(64, 64), frame=frame), strict=True):
        image = cv2.imread(str(out / "images" / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(out / "masks" / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(image, sample.image[:, :, 0])
        np.testing.assert_array_equal(mask, sample.mask * 255)
        assert (row["id"], row["patient"], row["label"]) == (
            sample.source_id,
            sample.patient_id,
            sample.label,
        )
        assert float(row["spacing_row_mm"]) == pytest.approx(sample.spacing_mm[0], abs=1e-6)
        assert float(row["spacing_column_mm"]) == pytest.approx(sample.spacing_mm[1], abs=1e-6)
        assert row["device"] == sample.attributes["device"]


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    made = iter(phantom_samples(2, size=(32, 32)))

    def interrupted(*_):
        yield next(made)
        raise KeyboardInterrupt

    monkeypatch.setattr(phantom, "phantom_samples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path / "phantoms", 2)
    assert list(tmp_path.iterdir()) == []


def test_existing_phantoms_are_replaced_only_when_asked(tmp_path):
    out = write_phantoms(tmp_path / "phantoms", 2, size=(32, 32))
    with pytest.raises(OutputError, match="--overwrite"):
        write_phantoms(out, 1, size=(32, 32))
    write_phantoms(out, 1, size=(32, 32), overwrite=True)
    assert len(list((out / "images").iterdir())) == 1


@pytest.mark.parametrize("settings", [{"count": 0}, {"count": 1, "seed": -1}, {"count": 1, "size": (16, 64)}])
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path, settings):
    with pytest.raises(DataError, match="expected"):
        phantom_samples(**settings)
    with pytest.raises(DataError, match="expected"):
        write_phantoms(tmp_path / "phantoms", **settings)
    assert list(tmp_path.iterdir()) == []


def test_tensorflow_is_not_imported():
    code = "import sys, ustoolkit.data.phantom; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _homogeneous(scanner, focus_mm=20.0, change=None):
    grid = Grid.of(scanner, 40.0, 40.0)
    tissue = Tissue(
        echo_db=np.zeros(grid.shape, np.float32),
        reflector=np.zeros(grid.shape, np.float32),
        attenuation=np.full(grid.shape, NOMINAL_ATTENUATION, np.float32),
    )
    if change is not None:
        change(tissue, grid)
    return grid, envelope(tissue, grid, scanner, np.random.default_rng(1), focus_mm)


def _row(grid, depth_mm):
    return round(depth_mm / grid.axial_step_mm)


def _lateral_correlation(echoes):
    power = echoes**2
    return np.corrcoef(power[:, :-2].ravel(), power[:, 2:].ravel())[0, 1]


def _contrast_below(sample):
    """Mean grey below a lesion less that beside it at the same depth; None where the image leaves no room."""
    rows, columns = (np.flatnonzero(sample.mask.any(axis=axis)) for axis in (1, 0))
    height, width = sample.mask.shape
    start, stop = rows[-1] + 4, min(rows[-1] + 24, height)
    third = len(columns) // 3
    beside = np.ones(width, bool)
    beside[max(0, columns[0] - 6) : columns[-1] + 7] = False
    if stop - start < 8 or beside.sum() < 20:
        return None
    strip = sample.image[start:stop, :, 0].astype(float)
    return strip[:, columns[third] : columns[-third - 1] + 1].mean() - strip[:, beside].mean()
