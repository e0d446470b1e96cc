"""From an image to a probability and a size: a segmenter finds the lesion, one or several classifiers judge it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ustoolkit.data.example import pixel_digest
from ustoolkit.data.sample import Sample
from ustoolkit.errors import RunError
from ustoolkit.evaluation.measurements import LesionSize, measure_size
from ustoolkit.inference.classifier import Classifier, calibrated, decision_of
from ustoolkit.inference.postprocess import keep_largest_components, to_mask
from ustoolkit.inference.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What is found in one image; all but the mask is None where there is no lesion.

    Attributes:
        mask: uint8 (height, width), 1 for the lesion, the largest region that was found; all 0 where none was.
        size_pixels: of the lesion.
        size_mm: of the lesion; None also where the distance of pixels is not known.
        probability: of the positive label, calibrated.
        lowest, highest: of the members of an ensemble, each calibrated; None also of one classifier alone.
        decision: the label.
    """

    mask: np.ndarray
    size_pixels: LesionSize | None = None
    size_mm: LesionSize | None = None
    probability: float | None = None
    lowest: float | None = None
    highest: float | None = None
    decision: str | None = None


class Diagnostician:
    """A segmenter and classifiers, as one.

    The calibrated probabilities of several classifiers are averaged, and so are their thresholds. A fusion is one
    classifier, with the weights, temperature and threshold that were found for it; its runs are members of the
    ensemble.

    Attributes:
        labels: names, the positive one last.
        threshold: probability from which on an image is positive; None with three labels or more, of which the most
            likely one is taken.
        members: how many classifiers there are in all.
        num_classes: of the segmenter's masks, the background included.
    """

    def __init__(self, segmenter: Segmenter, classifiers: Sequence[Classifier]) -> None:
        """Joins them.

        Args:
            segmenter: finds lesions.
            classifiers: at least one, each with its decision.
        Raises:
            RunError: a classifier has no decision, or they have different labels.
        """
        self._segmenter, self._classifiers = segmenter, list(classifiers)
        self.labels = self._classifiers[0].labels
        for one in self._classifiers:
            if one.labels != self.labels:
                raise RunError(
                    f"{one.folder}: expected the labels {', '.join(self.labels)} as in {self._classifiers[0].folder}, "
                    f"found {', '.join(one.labels)}. Name classifiers of one data set."
                )
        self._decisions = [decision_of(one.folder) for one in self._classifiers]
        thresholds = [decision.threshold for decision in self._decisions]
        self.threshold = float(np.mean(thresholds)) if len(self.labels) == 2 else None
        self.members = sum(one.members for one in self._classifiers)
        self._trained_on = set().union(*(one.trained_on for one in self._classifiers))
        self.num_classes = len(segmenter.classes)

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """Source ids by part, of the records that all classifiers were trained on alike; None of any other."""
        splits = [one.splits_of(records_digest) for one in self._classifiers]
        return splits[0] if all(one == splits[0] for one in splits) else None

    def learned_from(self, sample: Sample) -> bool:
        """Whether training or validation of a classifier saw these pixels, so that it judges them too well."""
        digest = pixel_digest(sample.image)
        return digest in self._trained_on

    def __call__(self, samples: Sequence[Sample]) -> list[Diagnosis]:
        """Diagnoses images, which should be so few that all fit into memory.

        Raises:
            DataError: a lesion cannot be measured by a classifier.
        """
        masks = self._lesions(samples)
        found = [place for place, mask in enumerate(masks) if mask.any()]
        diagnoses = [Diagnosis(mask) for mask in masks]
        if not found:
            return diagnoses
        combined, members = self._probabilities([samples[place] for place in found], [masks[place] for place in found])
        for row, place in enumerate(found):
            positive = members[:, row, -1]
            spacing = samples[place].spacing_mm
            diagnoses[place] = Diagnosis(
                masks[place],
                measure_size(masks[place]),
                measure_size(masks[place], spacing) if spacing is not None else None,
                float(combined[row, -1]),
                float(positive.min()) if self.members > 1 else None,
                float(positive.max()) if self.members > 1 else None,
                self._decided(combined[row]),
            )
        return diagnoses

    def _lesions(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        settings = self._segmenter.inference
        probabilities = self._segmenter.probabilities(sample.image for sample in samples)
        masks = ((to_mask(probability, settings) > 0).astype(np.uint8) for probability in probabilities)
        return [keep_largest_components(mask) for mask in masks]

    def _probabilities(self, samples: list[Sample], masks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Calibrated probabilities: of all together (n, labels), and of each member (members, n, labels)."""
        combined, members = [], []
        for one, decision in zip(self._classifiers, self._decisions, strict=True):
            raw = one.raw(samples, masks, len(samples))
            combined.append(calibrated(one.combined(raw), decision))
            members.append(calibrated(raw, decision))
        return np.mean(combined, axis=0), np.concatenate(members)

    def _decided(self, probability: np.ndarray) -> str:
        if self.threshold is None:
            return self.labels[int(probability.argmax())]
        return self.labels[int(probability[-1] >= self.threshold)]
