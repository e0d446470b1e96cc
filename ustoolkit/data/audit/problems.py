"""The kinds of problem that an audit can name: how bad each is, and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")


@dataclass(frozen=True)
class Case:
    """One instance of a problem.

    Attributes:
        kind: a key of `KINDS`.
        source_ids: the images, one or several that belong together.
        text: what was found there, in a few words.
    """

    kind: str
    source_ids: tuple[str, ...]
    text: str = ""


# An error would make scores wrong, a warning probably is a mistake, a notice is good to know. The worst come first.
KINDS: dict[str, tuple[Severity, str]] = {
    "same picture, different labels": (
        "error",
        "One label is wrong, and nobody can tell which by the picture: look it up, or leave all of them out.",
    ),
    "same picture in different parts": (
        "error",
        "A network would be tested on what it was trained on: leave out all but one, or split again.",
    ),
    "same picture, different patients": (
        "error",
        "One could be trained on and the other tested on: leave out all but one, or give them one patient.",
    ),
    "patient in different parts": (
        "error",
        "A network would be tested on patients it was trained on: split by patient, with 'ustoolkit split'.",
    ),
    "labels contradict each other": (
        "error",
        "Two places say different things of one image: correct one, or leave the image out.",
    ),
    "label against all others": (
        "warning",
        "Nearly all images with this value have another label: look up which of the two is wrong.",
    ),
    "unknown label": ("warning", "List it under labels in the data set's description, or correct it."),
    "image with several labels": ("warning", "It counts as unlabelled: give it one label, or describe the shapes."),
    "unknown image in a split": ("warning", "The split was made for other images: split again."),
    "same picture twice, patient unknown": (
        "warning",
        "They count as two patients: leave out all but one, or say who is who with --patient.",
    ),
    "same picture, different masks": ("warning", "Two outlines of one lesion: choose one, and leave the other out."),
    "mask misses the lesion's box": ("warning", "Mask and box name different places: check which is wrong."),
    "mask outside the scan": ("warning", "Most of it lies outside of the scanned area: check that it lies right."),
    "mask covers the whole image": ("warning", "Check that mask and image are not inverted."),
    "empty mask": ("warning", "Right for an image without lesion; otherwise draw the mask."),
    "tiny mask": ("warning", "Check for slips of the pen."),
    "uniform image": ("warning", "All pixels are one colour: export the image again, or leave it out."),
    "photo turned by EXIF, mask may be upside down": (
        "warning",
        "Sizes do not tell which way up the mask was drawn: look at it.",
    ),
    "photo turned by EXIF": ("notice", "It is turned upright: check that the mask lies right."),
    "same picture twice": ("notice", "Of one patient: it counts twice; leave out all but one."),
    "patient with different labels": ("notice", "Right where a patient has several lesions; otherwise correct one."),
    "no mask": ("notice", "These are not trained on; draw a mask, or leave them to be predicted."),
    "mask in several pieces": (
        "notice",
        "If that is right, train with --set inference.largest_component=false.",
    ),
    "calipers": ("notice", "Crosses of a measurement mark the lesion: a network may learn to look for them."),
    "text": ("notice", "Text in the picture may name the patient, or give the label away."),
    "coloured pixels": ("notice", "Colour Doppler, or marks of a pen: check that they do not outline the lesion."),
}


def as_problems(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """The cases by kind, worst first.

    Returns:
        JSON-serialisable: of each kind that occurs `kind`, `severity`, `remedy`, `source_ids` (each once, in order) and
        `details`, a list of cases with their `source_ids` and `text`.
    """
    by_kind: dict[str, list[Case]] = {}
    for case in cases:
        by_kind.setdefault(case.kind, []).append(case)
    return [
        {
            "kind": kind,
            "severity": severity,
            "source_ids": list(dict.fromkeys(name for case in by_kind[kind] for name in case.source_ids)),
            "remedy": remedy,
            "details": [{"source_ids": list(case.source_ids), "text": case.text} for case in by_kind[kind]],
        }
        for kind, (severity, remedy) in KINDS.items()
        if kind in by_kind
    ]
