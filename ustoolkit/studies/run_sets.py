"""Runs that belong together, seeds and folds of one method, read as arrays over seeds and images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.data.records import IndexRow, Records
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.evaluation import METRICS
from ustoolkit.evaluation.subgroups import ImageFacts
from ustoolkit.studies.run_evaluations import AGAIN, BRIER, Evaluation, Kind, read_evaluations


@dataclass(frozen=True, eq=False)
class RunSet:
    """What the runs of one method scored.

    Attributes:
        folder: that was named.
        kind: what the runs do.
        evaluations: the folders that were read.
        seeds: rising, each once.
        source_ids: every image that a seed scored, in the order of the records.
        patient_ids: str (images,), of each.
        facts: of each; without records only the label is known.
        checksums: SHA-256 of each image's pixels; none where the records were not found.
        digest: of the records that were scored; '' where nothing says.
        scored: bool (seeds, images), whether a seed scored an image.
        metrics: float (seeds, images) by name, NaN where the seed did not score the image or the metric is undefined.
            Of a run that segments those of `evaluation.METRICS`, the mean over an image's classes; of one that
            classifies `BRIER`, the squared error of the positive label's probability.
        positive: name of the positive label, of runs that classify.
        truth: bool (images,), whether each image is positive, of runs that classify.
        probability: float (seeds, images) of the positive label, NaN where the seed did not score the image.
    """

    folder: Path
    kind: Kind
    evaluations: tuple[Path, ...]
    seeds: tuple[int, ...]
    source_ids: tuple[str, ...]
    patient_ids: np.ndarray
    facts: tuple[ImageFacts, ...]
    checksums: tuple[str, ...]
    digest: str
    scored: np.ndarray
    metrics: Mapping[str, np.ndarray]
    positive: str = ""
    truth: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    probability: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def whole(self) -> list[str]:
        """The images that every seed scored."""
        everywhere = np.all(self.scored, axis=0)
        return [name for name, there in zip(self.source_ids, everywhere, strict=True) if there]

    def on(self, source_ids: Sequence[str]) -> "RunSet":
        """The same of some of its images, in the order that is asked for."""
        place = {name: number for number, name in enumerate(self.source_ids)}
        chosen = np.array([place[name] for name in source_ids], dtype=int)
        return replace(
            self,
            source_ids=tuple(source_ids),
            patient_ids=self.patient_ids[chosen],
            facts=tuple(self.facts[number] for number in chosen),
            checksums=tuple(self.checksums[number] for number in chosen) if self.checksums else (),
            scored=self.scored[:, chosen],
            metrics={name: values[:, chosen] for name, values in self.metrics.items()},
            truth=self.truth[chosen] if self.truth.size else self.truth,
            probability=self.probability[:, chosen] if self.probability.size else self.probability,
        )


def read_run_set(folder: Path, part: str = "test", records: Path | None = None, runs: Sequence[Path] = ()) -> RunSet:
    """Reads a run, an evaluation, or a folder of runs: the seeds of an arm, the folds of a cross-validation.

    Runs of one seed that were tested on different images are folds, and are joined.

    Args:
        folder: a run folder, a folder of an evaluation, or one with runs at most three levels below it.
        part: name of the evaluation to read, such as 'test' or 'test-crf'.
        records: where the records are now; None for where they were. Where they are not found, nothing is known of an
            image but its label.
        runs: those in the folder to read; none for all.
    Raises:
        RunError: there is no such evaluation, one is damaged, or the runs are not of one method or of other records.
        RecordsError: `records` is no records folder.
    """
    folder = Path(folder)
    found = read_evaluations(folder, part, runs)
    for key, what in (
        ("kind", "runs of one kind"),
        ("digest", "runs of one set of records"),
        ("positive", "one label"),
    ):
        other = next((one for one in found if getattr(one, key) != getattr(found[0], key)), None)
        if other:
            raise RunError(
                f"{other.folder}: expected {what} as {found[0].folder}, found '{getattr(other, key)}', not "
                f"'{getattr(found[0], key)}'. Name a folder of runs that belong together."
            )
    by_seed: dict[int, dict[str, dict[str, Any]]] = {}
    for one in found:
        joined = by_seed.setdefault(one.seed, {})
        twice = joined.keys() & one.images.keys()
        if twice:
            raise RunError(
                f"{one.folder}: it scores '{min(twice)}', as does another run of seed {one.seed} in {folder}. Runs of "
                "one seed are folds, each with other test images. Name the folder of one method."
            )
        joined.update(one.images)
    index = _index(found[0], records)
    return _joined(folder, found, dict(sorted(by_seed.items())), index)


def shared_images(sets: Mapping[str, RunSet]) -> tuple[dict[str, RunSet], dict[str, int]]:
    """The images that every seed of every set scored.

    Args:
        sets: by name, one or more.
    Returns:
        the sets on these images, in the order of the first; and how many images of each set are left out.
    Raises:
        RunError: the sets are not of one kind, of other records, or have no image in common.
    """
    first, *others = sets.values()
    for other in others:
        _check_comparable(first, other)
    for each in sets.values():
        if not each.whole:
            raise RunError(
                f"{each.folder}: expected seeds that were tested on the same images, found none that all of them "
                "scored. Name runs of one split."
            )
    wanted = set(first.whole).intersection(*(other.whole for other in others))
    if not wanted:
        where = others[-1].evaluations[0] if others else first.folder
        raise RunError(
            f"{where}: expected images that every seed of {first.evaluations[0]} scored too, found others. Evaluate "
            "both on one part."
        )
    names = [name for name in first.source_ids if name in wanted]
    return {name: each.on(names) for name, each in sets.items()}, {
        name: len(each.source_ids) - len(names) for name, each in sets.items()
    }


def set_names(folders: Iterable[Path]) -> list[str]:
    """A short name for each folder: the end of its path, as long as it must be to differ from the others.

    An evaluation is called as its run, unless two are of one run; what is named twice has a number.
    """
    whole = [Path(folder).resolve() for folder in folders]
    runs = [path.parent.parent if path.parent.name == "evaluation" else path for path in whole]
    called = [
        path if any(run == other and path != twin for other, twin in zip(runs, whole, strict=True)) else run
        for run, path in zip(runs, whole, strict=True)
    ]
    names: list[str] = []
    for path in called:
        others = [other.parts for other in called if other != path]
        lengths = range(1, len(path.parts))
        shortest = next((end for end in lengths if all(other[-end:] != path.parts[-end:] for other in others)), 1)
        name = "/".join(path.parts[-shortest:])
        earlier = called[: len(names)].count(path)
        names.append(f"{name} ({earlier + 1})" if earlier else name)
    return names


def _index(first: Evaluation, folder: Path | None) -> list[IndexRow]:
    """The index of the records that were scored; none where these are not there any more."""
    scored = folder or first.records
    if scored is None or (folder is None and not scored.is_dir()):
        return []
    try:
        records = Records(scored)
    except RecordsError:
        if folder is None:  # damaged or half converted since: labels are known all the same
            return []
        raise
    if first.digest and records.digest != first.digest:
        if folder is None:
            return []
        raise RunError(
            f"{folder}: expected the records that {first.folder} scored, found others. Name those, or evaluate again."
        )
    return records.index


def _joined(
    folder: Path,
    found: Sequence[Evaluation],
    by_seed: Mapping[int, dict[str, dict[str, Any]]],
    index: Sequence[IndexRow],
) -> RunSet:
    known = {name: image for images in by_seed.values() for name, image in images.items()}
    rows = {row.source_id: row for row in index if row.source_id in known}
    if index and len(rows) < len(known):
        missing = next(name for name in known if name not in rows)
        raise RunError(f"{folder}: its records do not hold '{missing}', which was scored. {AGAIN}")
    names = list(rows) or list(known)
    classifies = found[0].kind == "classification"

    def column(key: str) -> np.ndarray:
        return np.array([[images.get(name, {}).get(key, np.nan) for name in names] for images in by_seed.values()])

    return RunSet(
        folder=folder,
        kind=found[0].kind,
        evaluations=tuple(one.folder for one in found),
        seeds=tuple(by_seed),
        source_ids=tuple(names),
        patient_ids=np.array([known[name]["patient_id"] for name in names], dtype=str),
        facts=tuple(_facts(known[name]["label"], rows.get(name)) for name in names),
        checksums=tuple(rows[name].sha256 for name in names) if rows else (),
        digest=found[0].digest,
        scored=np.array([[name in images for name in names] for images in by_seed.values()]),
        metrics={name: column(name) for name in ((BRIER,) if classifies else METRICS)},
        positive=found[0].positive,
        truth=np.array([known[name]["label"] == found[0].positive for name in names] if classifies else [], dtype=bool),
        probability=column("probability") if classifies else np.zeros((0, 0)),
    )


def _facts(label: str, row: IndexRow | None) -> ImageFacts:
    return ImageFacts(label, row.lesion_fraction, row.attributes) if row else ImageFacts(label)


def _check_comparable(first: RunSet, other: RunSet) -> None:
    for key in ("kind", "positive"):
        found, expected = getattr(other, key), getattr(first, key)
        if found != expected:
            what = f"probabilities of '{expected}'" if key == "positive" else f"runs of {expected}"
            those = f"those of '{found}'" if key == "positive" else f"runs of {found}"
            raise RunError(
                f"{other.folder}: expected {what} as in {first.folder}, found {those}. Compare methods of one kind, "
                "and classifiers of one classification.positive."
            )
    if first.digest == other.digest:
        return
    if first.checksums and other.checksums:
        own, others = ({name: known for name, *known in _known(each)} for each in (first, other))
        shared = own.keys() & others.keys()
        if shared and all(own[name] == others[name] for name in shared):
            return
    raise RunError(
        f"{other.folder}: expected scores of the records that {first.folder} is of, found those of others. Evaluate "
        "both on the same records."
    )


def _known(each: RunSet) -> Iterable[tuple[str, str, float | None]]:
    """Each image with what tells its pixels, and its annotation, from another's."""
    fractions = (facts.lesion_fraction for facts in each.facts)
    return zip(each.source_ids, each.checksums, fractions, strict=True)
