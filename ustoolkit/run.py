"""What a run folder holds, read and written in one place. No TensorFlow.

recipe.toml           the resolved settings
auto.toml             of a recipe that was chosen: its settings with the reason for each
run.json              versions, machine, git revision, seed, data, state and scores
manifest.json         the records' manifest, as they were when training began
splits.json           which image was in which part, and checksums of those that training saw
history.csv           one row an epoch
best.weights.h5       weights of the epoch with the best validation Dice
last.weights.h5       weights of the last epoch
checkpoints/          everything that resuming needs
tensorboard/          the same curves for TensorBoard
tuned.json            settings of inference tuned on the validation part, and the evidence; not there where none was
tuning/               crf.csv, threshold.csv: what was tried, and its validation Dice
features/PART.npz     of a classifier: what its frozen backbone makes of a part
out_of_fold.csv       of a classifier that was cross-validated: its probabilities of training images, out of fold
estimator/            of a classifier whose backbone stays frozen, or that measures lesions: scikit-learn's part of it
decision.json         of a classifier: temperature and operating point, found on the validation part
evaluation/NAME/      metrics.json, per_image.csv, masks/, probabilities/
explain/              explanation.json, pictures of layers and images
export/1/             the SavedModel, its metadata and its card
report.html           the run's page
report-against-*.html pages beside other runs
"""

import contextlib
import csv
import io
import shlex
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ustoolkit.errors import RecipeError, RunError
from ustoolkit.files import check_replaceable, check_writable, read_json, write_json, write_text
from ustoolkit.provenance import git_revision, machine, versions
from ustoolkit.recipe import Recipe, dump_toml, load_recipe, validate
from ustoolkit.recipe.settings import InferenceSettings

_OLD_TABLES = ("auto.toml", "history.csv", "out_of_fold.csv", "decision.json", "tuned.json")
_OLD_FILES = ("best.weights.h5", "last.weights.h5", "report.html", *_OLD_TABLES)
_PAIR_PAGES = "report-against-*.html"
_TUNE_AGAIN = "Remove the file, to segment with the recipe's settings or to tune again."


class Run:
    """A run folder.

    Attributes:
        folder: where it lies.
        recipe: the resolved settings.
        state: the content of `run.json`.
    """

    def __init__(self, folder: Path | str) -> None:
        """Opens a run.

        Raises:
            RunError: no such folder, or it holds no run.
        """
        self.folder = Path(folder)
        remedy = "Name a folder that 'ustoolkit train --out' made."
        if not self.folder.is_dir():
            raise RunError(f"{self.folder}: expected a run folder, found nothing. {remedy}")
        if not (self.folder / "recipe.toml").is_file():
            raise RunError(f"{self.folder}: expected a run folder, found no recipe.toml in it. {remedy}")
        self.recipe: Recipe = load_recipe(self.folder / "recipe.toml")
        self.state: dict[str, Any] = self._read("run.json", "started", "records")

    @classmethod
    def create(
        cls,
        folder: Path | str,
        recipe: Recipe,
        manifest: dict[str, Any],
        records: Path,
        splits: dict[str, list[str]],
        trained_on: list[str],
        overwrite: bool = False,
    ) -> "Run":
        """Starts a run folder.

        Args:
            folder: where; it must be free, or a run that may be replaced.
            recipe: the resolved settings.
            manifest: of the records.
            records: their folder.
            splits: source ids by part.
            trained_on: SHA-256 of the pixels of the images in the training and validation parts.
            overwrite: whether an old run there may be replaced.
        Raises:
            OutputError: the folder is taken or cannot be written.
        """
        folder = Path(folder)
        check_replaceable(folder, overwrite, owned_by="run.json")
        check_writable(folder)
        if (folder / "run.json").is_file():  # so that what is half replaced does not look finished
            write_json(folder / "run.json", {"status": "started", "started": "", "records": ""})
        for old in _OLD_FILES:
            (folder / old).unlink(missing_ok=True)
        for page in folder.glob(_PAIR_PAGES):
            page.unlink()
        for old in ("checkpoints", "tensorboard", "evaluation", "export", "tuning", "features", "estimator", "explain"):
            shutil.rmtree(folder / old, ignore_errors=True)
        write_json(folder / "manifest.json", manifest)
        write_json(folder / "splits.json", {"parts": splits, "trained_on_sha256": trained_on})
        write_text(folder / "recipe.toml", dump_toml(recipe))
        write_json(
            folder / "run.json",
            {
                "status": "started",
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "records": str(records.resolve()),
                "seed": recipe.training.seed,
                "versions": versions(),
                "git_revision": git_revision(),
                "machine": machine(),
                "command": shlex.join(sys.argv),
            },
        )
        return cls(folder)

    def discard(self) -> None:
        """Removes what `create` wrote of a run that could not begin, and the folder if nothing else is in it."""
        shutil.rmtree(self.folder / "features", ignore_errors=True)
        for name in ("auto.toml", "best.weights.h5", "manifest.json", "splits.json", "recipe.toml", "run.json"):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def update(self, **state: Any) -> None:
        """Changes fields of `run.json`."""
        self.state.update(state)
        write_json(self.folder / "run.json", self.state)

    @property
    def best_weights(self) -> Path:
        """Weights of the best epoch, `.weights.h5`."""
        return self.folder / "best.weights.h5"

    @property
    def last_weights(self) -> Path:
        """Weights of the last epoch, `.weights.h5`."""
        return self.folder / "last.weights.h5"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints to resume from."""
        return self.folder / "checkpoints"

    @property
    def manifest(self) -> dict[str, Any]:
        """Manifest of the records that the run was trained on."""
        return self._read("manifest.json", "digest", "classes", "counts")

    @property
    def splits(self) -> dict[str, list[str]]:
        """Source ids by part, as trained."""
        return self._read("splits.json", "parts", "trained_on_sha256")["parts"]

    @property
    def trained_on(self) -> set[str]:
        """SHA-256 of the pixels of every image that training or validation saw."""
        return set(self._read("splits.json", "parts", "trained_on_sha256")["trained_on_sha256"])

    @property
    def classes(self) -> list[str]:
        """Names of the mask values 0, 1, …"""
        return self.manifest["classes"]

    @property
    def labels(self) -> list[str]:
        """Names of the labels 0, 1, … of a run that classifies, the positive one last; none of one that segments."""
        return self.state.get("labels", [])

    def features(self, part: str) -> Path:
        """File of a part's bottleneck features."""
        return self.folder / "features" / f"{part}.npz"

    @property
    def estimator(self) -> Path:
        """Folder of the scikit-learn classifier."""
        return self.folder / "estimator"

    @property
    def explanation(self) -> Path:
        """Folder of what its layers have learned and why it decides."""
        return self.folder / "explain"

    @property
    def records(self) -> Path:
        """Folder of the records that the run was trained on."""
        return Path(self.state["records"])

    @property
    def tuned(self) -> dict[str, Any]:
        """What tuning kept: 'inference', the settings it changes, and 'evidence' by name; both empty where none was.

        Raises:
            RunError: `tuned.json` is damaged.
        """
        if not (self.folder / "tuned.json").is_file():
            return {"inference": {}, "evidence": {}}
        content = self._read("tuned.json", "inference", "evidence", remedy=_TUNE_AGAIN)
        for key in ("inference", "evidence"):
            if not isinstance(content[key], dict):
                raise RunError(f"{self.folder / 'tuned.json'}: expected a table '{key}', found none. {_TUNE_AGAIN}")
        return content

    @property
    def inference(self) -> InferenceSettings:
        """From probabilities to a mask: the recipe's settings, with what was tuned in their place.

        Raises:
            RunError: `tuned.json` is damaged, or holds settings that are not valid.
        """
        return self._with_tuned(self.tuned["inference"])

    def keep_tuned(self, name: str, inference: dict[str, Any], evidence: dict[str, Any]) -> None:
        """Keeps settings that were tuned on the validation part, beside those tuned before.

        Args:
            name: what was tuned, such as 'crf'; evidence of that name is replaced.
            inference: the settings tuned, a part of the table `inference`.
            evidence: how they were found and what they gain; JSON-serialisable.
        Raises:
            RunError: the settings are not valid, or `tuned.json` is damaged.
            OutputError: the run cannot be written to.
        """
        tuned = self.tuned
        merged = _merged(tuned["inference"], inference)
        self._with_tuned(merged)
        write_json(self.folder / "tuned.json", {"inference": merged, "evidence": {**tuned["evidence"], name: evidence}})

    def forget_tuned(self) -> None:
        """Removes what was tuned, since it was for weights that are about to be replaced."""
        (self.folder / "tuned.json").unlink(missing_ok=True)

    def _with_tuned(self, tuned: dict[str, Any]) -> InferenceSettings:
        content = _merged(self.recipe.inference.model_dump(), tuned)
        try:
            return validate(InferenceSettings, content, str(self.folder / "tuned.json"), "inference")
        except RecipeError as problem:
            raise RunError(f"{problem}\n{_TUNE_AGAIN}") from None

    def _read(self, name: str, *keys: str, remedy: str = "The run is damaged; train again.") -> dict[str, Any]:
        """One of the run's JSON files, which must have some keys."""
        path = self.folder / name
        content = read_json(path, RunError, remedy)
        missing = [key for key in keys if not isinstance(content, dict) or key not in content]
        if missing:
            raise RunError(f"{path}: expected an entry '{missing[0]}', found none. {remedy}")
        return content

    def evaluation(self, name: str) -> Path:
        """Folder of one evaluation, such as 'test'."""
        return self.folder / "evaluation" / name

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Writes one row an epoch; 0 for what rows of earlier versions do not have."""
        stream = io.StringIO()
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(stream, fieldnames=names, restval=0.0, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / "history.csv", stream.getvalue())

    def read_history(self) -> list[dict[str, float]]:
        """The rows that `write_history` wrote; none where nothing was trained yet."""
        path = self.folder / "history.csv"
        if not path.is_file():
            return []
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        except (ValueError, TypeError) as problem:
            raise RunError(f"{path}: expected a table of numbers ({problem}). Train again.") from None


def _merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with changes in their place, table within table."""
    merged = dict(settings)
    for key, value in changes.items():
        within = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if within else value
    return merged
