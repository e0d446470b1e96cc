"""Attributes that all but determine the label, and the images that break the rule: fibroadenomas that are malignant.

An approximate functional dependency in the sense of Kivinen and Mannila (1995), counted in patients, since the images
of one patient are no evidence for each other.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from ustoolkit.data.audit.examine import Row
from ustoolkit.data.audit.problems import Case

FEWEST_PATIENTS = 10  # with a value; fewer say little
MOST_EXCEPTIONS = 0.1  # of a value's patients; one is always allowed
MOST_EXCEPTIONS_OVERALL = 0.03  # of all patients with determined values
LEAST_DETERMINED = 0.9  # share of the patients whose value determines the label
LEAST_GAIN = 0.75  # share of the wrong guesses by the commonest label alone that the attribute saves
_MISSING = frozenset({"", "nan", "none", "null", "n/a", "na", "unknown", "-", "?"})


def dependency_cases(rows: Sequence[Row]) -> Iterator[Case]:
    """Images whose label is not that of nearly all other patients with the same value of an attribute.

    An attribute counts where its values, those of `FEWEST_PATIENTS` or more, determine the label: each in all but
    `MOST_EXCEPTIONS` of its patients, for `LEAST_DETERMINED` of the patients. Scores such as BI-RADS do not.

    Args:
        rows: the images; those without a label say nothing.
    """
    values: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for name, value in row.attributes.items() if row.label else ():
            if isinstance(value, str | int | float) and str(value).strip().lower() not in _MISSING:
                values[name][str(value).strip().lower()].append(row)
    for name in sorted(values):
        yield from _exceptions(name, values[name])


def _exceptions(name: str, by_value: dict[str, list[Row]]) -> Iterator[Case]:
    supported = {value: images for value, images in by_value.items() if _patients(images) >= FEWEST_PATIENTS}
    if len(supported) < 2:
        return
    patients = determined = errors = mixed = 0
    found = []
    for value, images in supported.items():
        count = _patients(images)
        label, exceptions = _majority(images)
        wrong = _patients(exceptions)
        patients += count
        if wrong <= max(1, MOST_EXCEPTIONS * count):
            determined += count
            errors += wrong
            found += [(row, value, label, count - wrong, count) for row in exceptions]
        else:
            mixed += wrong
    _, guessed_wrong = _majority([row for images in supported.values() for row in images])
    if (
        determined < LEAST_DETERMINED * patients
        or errors > max(1, MOST_EXCEPTIONS_OVERALL * determined)
        or errors + mixed > (1 - LEAST_GAIN) * _patients(guessed_wrong)
    ):
        return
    for row, value, label, right, count in found:
        text = f"{row.label}, but {name} '{value}' is {label} in {right} of {count} patients"
        yield Case("label against all others", (row.source_id,), text)


def _patients(images: Sequence[Row]) -> int:
    return len({row.patient_id for row in images})


def _majority(images: Sequence[Row]) -> tuple[str, list[Row]]:
    """The label that most patients have, and the images with another."""
    counts = Counter(label for _, label in sorted({(row.patient_id, row.label) for row in images}))
    label = min(counts, key=lambda name: (-counts[name], name))
    return label, [row for row in images if row.label != label]
