"""Phantoms: breast ultrasound with known lesions, simulated from physics.

To try everything on without patient data. The image is what a scanner would make of drawn tissue
(`phantom_scan`: speckle, beam, attenuation, log compression), the tissue a layered breast (`phantom_anatomy`)
holding one lesion (`phantom_lesion`). Everything is drawn from (seed, patient, view) alone, so the k-th
phantom is the same whatever the count.
"""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ustoolkit.data.phantom_anatomy import Breast, breast_tissue
from ustoolkit.data.phantom_frame import draw_calipers, draw_frame, lesion_axes, scan_area
from ustoolkit.data.phantom_lesion import Lesion, Outline, place_lesion
from ustoolkit.data.phantom_scan import Grid, envelope, log_compress, resample
from ustoolkit.data.phantom_scanner import SCANNERS
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.files import new_folder, write_bytes, write_text
from ustoolkit.progress import progress

TABLE = "phantoms.csv"
SMALLEST_SIZE = 32
_MOST_VIEWS = 3


class _Patient:
    """What all images of one patient share."""

    def __init__(self, seed: int, number: int):
        # The last word is never zero: NumPy takes [1, 2] and [1, 2, 0] for the same seed.
        random = np.random.default_rng([seed, number, 1])
        self.seed, self.number = seed, number
        self.views = int(random.integers(1, _MOST_VIEWS + 1))
        self.scanner = SCANNERS[random.integers(len(SCANNERS))]
        self.depth_mm = round(float(random.uniform(*self.scanner.depths_mm)), 1)
        self.stretch = float(random.uniform(0.85, 1.0))
        self.gain_db = float(random.normal(0, 3.0))
        self.breast = Breast.draw(self.depth_mm, random)
        self.lesion = Lesion.draw(random)

    def random_for(self, view: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.number, 2 + view])


def phantom_samples(
    count: int, seed: int = 0, size: tuple[int, int] = (256, 256), frame: bool = False
) -> Iterator[Sample]:
    """Simulated breast ultrasound images, each with one lesion; a patient has one to three images of it.

    Args:
        count: how many images; the last patient may have fewer than drawn for it.
        seed: another seed, other patients; 0 or larger.
        size: height and width in pixels.
        frame: whether the scan sits in a device's frame with text, depth scale and, on half, calipers.
    Returns:
        An iterator of Samples: image uint8 (height, width, 1); mask uint8 (height, width), 1 in the lesion;
        label 'benign' or, for about one patient in three, 'malignant'; attributes device, frequency_mhz,
        depth_mm, finding, view, lesion_long_mm, lesion_width_mm, lesion_height_mm (between the centres of
        the outermost pixels), calipers.
    Raises:
        DataError: `count`, `seed` or `size` is too small.
    """
    if count < 1:
        raise DataError(f"phantoms: expected a count of 1 or more, found {count}. Ask for at least one image.")
    if seed < 0:
        raise DataError(f"phantoms: expected a seed of 0 or more, found {seed}. Choose another seed.")
    if min(size) < SMALLEST_SIZE:
        raise DataError(
            f"phantoms: expected images of at least {SMALLEST_SIZE} × {SMALLEST_SIZE} pixels, "
            f"found {size[1]} × {size[0]}. Ask for a larger size."
        )
    return _samples(count, seed, size, frame)


def write_phantoms(
    out: Path | str,
    count: int,
    seed: int = 0,
    size: tuple[int, int] = (256, 256),
    frame: bool = False,
    overwrite: bool = False,
) -> Path:
    """Writes phantoms as a folder of images, masks (0 and 255) and a table with a row an image.

    Args:
        out: the folder to make: `images/`, `masks/`, `phantoms.csv`.
        count: images, as for `phantom_samples`.
        seed: another seed, other phantoms.
        size: height and width, pixels.
        frame: whether a device's frame is drawn around the scan.
        overwrite: whether older phantoms at `out` may be replaced.
    Returns:
        `out`.
    Raises:
        DataError: `count`, `seed` or `size` is too small.
        OutputError: `out` cannot be written, or is there already.
    """
    samples = phantom_samples(count, seed, size, frame)
    table = io.StringIO()
    writer = None
    with new_folder(out, overwrite, owned_by=TABLE) as folder:
        for sample in progress(samples, "drawing phantoms", total=count):
            write_bytes(folder / "images" / sample.filename, _png(sample.image))
            write_bytes(folder / "masks" / sample.filename, _png(sample.truth * 255))
            row = _row(sample)
            if writer is None:
                writer = csv.DictWriter(table, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
        write_text(folder / TABLE, table.getvalue())
    return Path(out)


def _samples(count: int, seed: int, size: tuple[int, int], frame: bool) -> Iterator[Sample]:
    made = 0
    patient_number = 0
    while made < count:
        patient = _Patient(seed, patient_number)
        for view in range(min(patient.views, count - made)):
            yield _sample(patient, view, made, size, frame)
            made += 1
        patient_number += 1


def _sample(patient: _Patient, view: int, number: int, size: tuple[int, int], frame: bool) -> Sample:
    random = patient.random_for(view)
    rows, columns = scan_area(size) if frame else (slice(0, size[0]), slice(0, size[1]))
    scan_size = (rows.stop - rows.start, columns.stop - columns.start)
    row_mm = patient.depth_mm / scan_size[0]
    spacing = (row_mm, row_mm * patient.stretch)
    scan, lesion = _scan(patient, scan_size, scan_size[1] * spacing[1], random)
    mask = np.zeros(size, np.uint8)
    mask[rows, columns] = lesion
    long_axis, short_axis = lesion_axes(mask, spacing)
    calipers = frame and bool(random.random() < 0.5)
    image = scan
    if frame:
        scanner = patient.scanner
        image = draw_frame(scan, size, scanner.name, patient.depth_mm, scanner.frequency_mhz)
    if calipers:
        draw_calipers(image, np.concatenate([long_axis, short_axis]))
    name = f"phantom_{number:04d}"
    return Sample(
        source_id=name,
        image=image[:, :, None],
        mask=mask,
        label=patient.lesion.label,
        patient_id=f"patient_{patient.number:04d}",
        spacing_mm=spacing,
        filename=f"{name}.png",
        attributes={
            "device": patient.scanner.name,
            "frequency_mhz": patient.scanner.frequency_mhz,
            "depth_mm": patient.depth_mm,
            "finding": patient.lesion.finding,
            "view": view,
            "lesion_long_mm": round(float(np.hypot(*(np.diff(long_axis, axis=0)[0] * spacing))), 2),
            "lesion_width_mm": round(float(np.ptp(np.flatnonzero(mask.any(axis=0))) * spacing[1]), 2),
            "lesion_height_mm": round(float(np.ptp(np.flatnonzero(mask.any(axis=1))) * spacing[0]), 2),
            "calipers": calipers,
        },
    )


def _scan(
    patient: _Patient, size: tuple[int, int], width_mm: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask, both uint8 (height, width), of one plane through a patient's breast."""
    scanner = patient.scanner
    grid = Grid.of(scanner, patient.depth_mm, width_mm)
    tissue = breast_tissue(grid, patient.breast, random)
    outline = Outline.draw(patient.lesion, patient.breast, grid, random)
    distance = place_lesion(tissue, grid, patient.lesion, outline, scanner.frequency_mhz, random)
    focus_mm = outline.centre_mm[0] * random.uniform(0.8, 1.2)
    echoes = envelope(tissue, grid, scanner, random, focus_mm, _gain_error_db(grid, random))
    grey = resample(log_compress(echoes, scanner, patient.gain_db + random.normal(0, 1.0)), size)
    inside = resample(distance[:, grid.margin : grid.margin + grid.inside], size) < 0
    return np.rint(grey).astype(np.uint8), inside.astype(np.uint8)


def _gain_error_db(grid: Grid, random: np.random.Generator) -> np.ndarray:
    """How the sliders of the time-gain compensation are off, and how well each line touches the skin."""
    sliders = cv2.resize(
        random.normal(0, 1.8, (8, 1)).astype(np.float32), (1, grid.rows), interpolation=cv2.INTER_CUBIC
    )
    contact = random.normal(0, 0.8, (1, 14)).astype(np.float32)
    if random.random() < 0.25:
        contact[0, random.integers(14)] -= random.uniform(5, 12)
    return sliders + cv2.resize(contact, (grid.lines, 1), interpolation=cv2.INTER_CUBIC)


def _row(sample: Sample) -> dict[str, object]:
    row_mm, column_mm = sample.spacing_mm or (math.nan, math.nan)
    return {
        "id": sample.source_id,
        "patient": sample.patient_id,
        "label": sample.label,
        "spacing_row_mm": f"{row_mm:.6f}",
        "spacing_column_mm": f"{column_mm:.6f}",
        **sample.attributes,
    }


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()
