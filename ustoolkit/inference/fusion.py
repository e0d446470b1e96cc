"""Several classifiers as one: a folder that names their runs and holds the weights by which they are averaged."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np

from ustoolkit.data.lesions import LesionFinder
from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.errors import RunError, UstoolkitError
from ustoolkit.evaluation.fusion import Fusion, How, fit_fusion
from ustoolkit.files import new_folder, read_json, write_json
from ustoolkit.inference.classifier import Classifier, RunClassifier
from ustoolkit.inference.decide import HeldOut, held_out, write_decision
from ustoolkit.recipe.classification import RegionSettings
from ustoolkit.recipe.validation import nearest
from ustoolkit.run import Run

FUSION_FILE = "fusion.json"
_CHUNK = 512  # images in memory at a time
_REMEDY = "Fuse the runs again with 'ustoolkit fuse'."


class FusedClassifier:
    """Classifies by several runs; see `ustoolkit.inference.classifier.Classifier`."""

    def __init__(self, folder: Path) -> None:
        """Loads the runs.

        Raises:
            RunError: the folder holds no fusion, or one of its runs is not there any more.
        """
        self.folder = folder
        content = read_json(folder / FUSION_FILE, RunError, _REMEDY)
        try:
            paths = [Path(path) for path in content["runs"]]
            self.labels = [str(label) for label in content["labels"]]
            self.fusion = Fusion.from_json(content["fusion"])
        except (KeyError, TypeError, UstoolkitError) as problem:
            raise RunError(f"{folder / FUSION_FILE}: the fusion is damaged ({problem}). {_REMEDY}") from None
        self.classifiers = [RunClassifier(Run(path if path.is_absolute() else folder / path)) for path in paths]
        other = len(self.classifiers) != self.fusion.runs or any(one.labels != self.labels for one in self.classifiers)
        begun = [one.run.state["started"] for one in self.classifiers]
        # A run that was trained anew may have learned, by another split, what the others are tested on.
        if other or content.get("started", begun) != begun:
            raise RunError(f"{folder / FUSION_FILE}: its runs are not those that were fused. {_REMEDY}")

    @property
    def region(self) -> RegionSettings:
        """That of the first run that needs a lesion, else of the first; all look for the lesion in one way."""
        return looked_at(self.classifiers)

    @property
    def members(self) -> int:
        """How many runs there are."""
        return len(self.classifiers)

    @property
    def needs_lesion(self) -> bool:
        """Whether one of the runs does."""
        return any(one.needs_lesion for one in self.classifiers)

    @property
    def trained_on(self) -> set[str]:
        """SHA-256 of the pixels of every image that one of the runs saw."""
        return set().union(*(one.trained_on for one in self.classifiers))

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """That of the runs, which is one; see `Classifier`."""
        return self.classifiers[0].splits_of(records_digest)

    def raw(self, samples: Iterable[Sample], masks: Iterable[np.ndarray], count: int) -> np.ndarray:
        """See `Classifier`."""
        pairs = zip(samples, masks, strict=True)
        parts = []
        while chunk := list(islice(pairs, _CHUNK)):
            images, lesions = [sample for sample, _ in chunk], [mask for _, mask in chunk]
            parts.append(np.stack([one.raw(images, lesions, len(chunk))[0] for one in self.classifiers]))
        return np.concatenate(parts, axis=1)

    def combined(self, raw: np.ndarray) -> np.ndarray:
        """See `Classifier`."""
        return self.fusion.apply(raw)


def load_classifier(folder: Path | str) -> Classifier:
    """Loads a run that classifies, or a fusion of some.

    Raises:
        RunError: it is neither, or incomplete.
    """
    folder = Path(folder)
    return FusedClassifier(folder) if (folder / FUSION_FILE).is_file() else RunClassifier(Run(folder))


def fuse_runs(
    folders: Sequence[Path], out: Path, how: How, records: Records, find: LesionFinder, overwrite: bool = False
) -> FusedClassifier:
    """Finds weights for several runs, and the fused temperature and operating point, on images that none learned from.

    Args:
        folders: of two runs or more, of one split of one data set.
        out: the folder to make.
        how: 'equal', 'auc', 'simplex' or 'stacked'; see `ustoolkit.evaluation.fusion.fit_fusion`.
        records: that they were trained on.
        find: where the lesions of the validation part are.
        overwrite: whether an old fusion there may be replaced.
    Returns:
        the fusion, written.
    Raises:
        RunError: fewer than two runs, the same one twice, or runs that do not fit together.
        DataError, RecordsError: the validation part cannot be read, or has one label only.
        OutputError: the folder is taken or cannot be written.
    """
    if how not in get_args(How):
        raise RunError(f"--how {how}: there is no such fusion. {nearest(how, list(get_args(How)))}")
    runs = [Run(folder) for folder in folders]
    classifiers = [RunClassifier(run) for run in runs]
    _check_runs(runs, records)
    _check_regions(classifiers)
    found = _shared([held_out(one, records, find) for one in classifiers])
    fusion = fit_fusion(np.stack([one.probability for one in found]), found[0].truth, how, found[0].groups)
    fused = fusion.apply(np.stack([one.probability for one in found]))
    with new_folder(out, overwrite, owned_by=FUSION_FILE) as folder:
        content = {
            "runs": [str(run.folder.resolve()) for run in runs],
            "started": [run.state["started"] for run in runs],
            "labels": runs[0].labels,
            "fusion": fusion.to_json(),
            "records": str(records.folder.resolve()),
        }
        write_json(folder / FUSION_FILE, content)
        settings = runs[0].recipe.classification.decision
        write_decision(folder, found[0].with_probability(fused), settings)
    return FusedClassifier(Path(out))


def looked_at(classifiers: Sequence[Classifier]) -> RegionSettings:
    """What several classifiers look at: that of the first that needs a lesion, else of the first.

    Args:
        classifiers: one or more.
    """
    return next((one.region for one in classifiers if one.needs_lesion), classifiers[0].region)


def _shared(found: list[HeldOut]) -> list[HeldOut]:
    """The images that every run was held out from, in one order: of runs with out-of-fold probabilities, those too."""
    common = set.intersection(*(set(one.source_ids) for one in found))
    names = [name for name in found[0].source_ids if name in common]
    return [one.of(names) for one in found]


def _check_runs(runs: Sequence[Run], records: Records) -> None:
    if len({run.folder.resolve() for run in runs}) < max(2, len(runs)):
        raise RunError("expected two runs or more, each once, found fewer. Name the folders of the runs to fuse.")
    for run in runs:
        if run.manifest["digest"] != records.digest:
            raise RunError(
                f"{run.folder}: this run was not trained on {records.folder}. Fuse runs of one data set, or name its "
                "records by --records."
            )
        for name, own, first in (("split", run.splits, runs[0].splits), ("labels", run.labels, runs[0].labels)):
            if own != first:
                raise RunError(
                    f"{run.folder}: its {name} differs from that of {runs[0].folder}, so that what one was tested "
                    "on the other may have learned. Train both on one split."
                )


def _check_regions(classifiers: Sequence[RunClassifier]) -> None:
    """All are handed one mask an image, so they must mean the same by a lesion; one that takes the whole needs none."""
    wanted = looked_at(classifiers)
    for one in classifiers:
        same = (one.region.source, one.region.box_attribute) == (wanted.source, wanted.box_attribute)
        if one.needs_lesion and not same:
            raise RunError(
                f"{one.folder}: expected classification.region.source '{wanted.source}' as the other runs have, found "
                f"'{one.region.source}'. Fuse runs that find the lesion in one way."
            )
