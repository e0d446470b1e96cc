"""The images that a classifier decided on, the surest mistakes first, with pictures that stand inside a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.evaluation.diagnosis_tables import Probabilities
from ustoolkit.inference.overlay import draw_overlay
from ustoolkit.report.cases import shown_size
from ustoolkit.report.rendering import picture_address

MOST_SHOWN = 8  # large pictures of each kind of mistake
MOST_THUMBNAILS = 600  # in the table, the surest mistakes first: some 3 MB
THUMBNAIL_SIDE = 128  # pixels, for screens with more than one to a point
_QUALITY = 78


@dataclass(frozen=True)
class Decided:
    """An image and what a classifier said of it.

    Attributes:
        source_id, patient_id: of the image; the patient as the evaluation counts him.
        truth, called: labels.
        probability: of the positive label.
        of_truth: probability of the label that is true: low where a mistake was sure.
        kind: 'missed', 'false alarm', 'other label' (of more than two), or '' where it is right.
    """

    source_id: str
    patient_id: str
    truth: str
    called: str
    probability: float
    of_truth: float
    kind: str


def decided_images(found: Probabilities, labels: Sequence[str]) -> list[Decided]:
    """All images, mistakes first, of these and of the others those first whose own label was given least.

    Args:
        found: of images.
        labels: the positive one last.
    """
    decided = []
    columns = zip(found.names, found.patients, found.truth, found.called, found.probability, strict=True)
    for name, patient, truth, called, probability in columns:
        of_truth = float(probability[labels.index(truth)])
        kind = _kind(truth, called, labels[-1])
        decided.append(Decided(name, patient, truth, called, float(probability[-1]), of_truth, kind))
    return sorted(decided, key=lambda each: (not each.kind, each.of_truth, each.source_id))


def thumbnails(decided: Sequence[Decided], records: Records) -> dict[str, str]:
    """Small pictures with the annotated outline, `data:` addresses by source id, of the first `MOST_THUMBNAILS`."""
    wanted = [each.source_id for each in decided[:MOST_THUMBNAILS]]
    return {
        sample.source_id: picture_address(_drawn(sample, THUMBNAIL_SIDE, 1)[0], _QUALITY)
        for sample in records.read(wanted)
    }


def shown_mistakes(decided: Sequence[Decided], records: Records) -> dict[str, list[dict]]:
    """The surest mistakes of each kind, with large pictures.

    Returns:
        by kind, dicts of decided, overlay and plain (`data:` addresses), width and height; kinds without a mistake
        are left out.
    """
    kinds = dict.fromkeys(each.kind for each in decided if each.kind)
    groups = {kind: [each for each in decided if each.kind == kind][:MOST_SHOWN] for kind in sorted(kinds, key=_order)}
    names = {each.source_id for group in groups.values() for each in group}
    samples = {sample.source_id: sample for sample in records.read(names)} if names else {}
    return {kind: [_shown(each, samples) for each in group] for kind, group in groups.items()}


def _shown(each: Decided, samples: Mapping[str, Sample]) -> dict:
    sample = samples[each.source_id]
    overlay, plain = _drawn(sample, thickness=2)
    height, width = plain.shape[:2]
    addresses = {"overlay": picture_address(overlay), "plain": picture_address(plain)}
    return {"decided": each, **addresses, "width": width, "height": height}


def _drawn(sample: Sample, longest_side: int = 0, thickness: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A picture with the annotated outline where there is one, and without."""
    size = shown_size(sample, longest_side) if longest_side else shown_size(sample)
    image = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
    image = image[..., np.newaxis] if image.ndim == 2 else image
    mask = None if sample.mask is None else cv2.resize(sample.mask, size, interpolation=cv2.INTER_NEAREST)
    return draw_overlay(image, None, mask, thickness), image


def _kind(truth: str, called: str, positive: str) -> str:
    if truth == called:
        return ""
    return "missed" if truth == positive else "false alarm" if called == positive else "other label"


def _order(kind: str) -> int:
    return ("missed", "false alarm", "other label").index(kind)
