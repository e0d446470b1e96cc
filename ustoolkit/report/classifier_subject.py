"""What a classifier's page is of: a run that classifies, or a fusion of several, and what either says of itself."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ustoolkit.errors import RunError
from ustoolkit.evaluation.tables import METRICS_FILE
from ustoolkit.files import read_json
from ustoolkit.recipe import dump_toml
from ustoolkit.report import contents
from ustoolkit.report.evaluated import check_evaluated
from ustoolkit.run import Run

FUSION_FILE = "fusion.json"
_FUSE_AGAIN = "Fuse the runs again with 'ustoolkit fuse'."
_POINTS = {
    "youden": "where sensitivity and specificity add up to most (Youden)",
    "sensitivity": "the highest threshold that reaches the sensitivity asked for",
    "half": "0.5, whatever the images",
}


def is_fusion(folder: Path) -> bool:
    """Whether a folder is one that `ustoolkit fuse` made."""
    return (folder / FUSION_FILE).is_file()


class Subject:
    """A run that classifies, or a fusion.

    Attributes:
        folder: its own.
        run: the run; None of a fusion.
        members: run folders that are fused; none of a run.
        name: of its folder.
    """

    def __init__(self, folder: Path) -> None:
        """Opens it.

        Raises:
            RunError: the folder is neither, is damaged, or holds a run that segments.
        """
        self.folder = folder
        self.name = folder.resolve().name
        self.run: Run | None = None
        self._fusion: dict[str, Any] = {}
        if is_fusion(folder):
            self._fusion = read_json(folder / FUSION_FILE, RunError, _FUSE_AGAIN)
            if not isinstance(self._fusion, dict) or not {"runs", "records", "fusion"} <= set(self._fusion):
                raise RunError(f"{folder / FUSION_FILE}: the fusion is damaged. {_FUSE_AGAIN}")
        else:
            self.run = Run(folder)
            if not self.run.recipe.classifies:
                raise RunError(f"{folder}: expected a run that classifies, found one that segments. Name another run.")
        self.members = [str(path) for path in self._fusion.get("runs", ())]

    @property
    def records(self) -> Path:
        """Folder of the records that it was trained on."""
        return self.run.records if self.run else Path(self._fusion["records"])

    def evaluation(self, name: str) -> Path:
        """Folder of one evaluation."""
        return self.folder / "evaluation" / name

    @property
    def evaluations(self) -> list[str]:
        """Names of those that there are."""
        return sorted(path.parent.name for path in self.folder.glob(f"evaluation/*/{METRICS_FILE}"))

    def check_evaluated(self, part: str) -> None:
        """Raises RunError where it has no evaluation of that name."""
        if self.run:
            check_evaluated(self.run, part)
        elif part not in self.evaluations:
            there = f"only {', '.join(self.evaluations)}" if self.evaluations else "none"
            raise RunError(
                f"{self.folder}: expected an evaluation '{part}', found {there}. Run 'ustoolkit evaluate "
                f"{self.folder}' first."
            )

    @property
    def byline(self) -> str:
        """What it is, in a line."""
        if self.run is None:
            return f"A fusion of {len(self.members)} runs: {', '.join(Path(path).name for path in self.members)}"
        recipe = self.run.recipe
        return f"Recipe {recipe.name}{f': {recipe.description}' if recipe.description else ''}"

    @property
    def started(self) -> str:
        """When training began; '' of a fusion."""
        return contents.started(self.run) if self.run else ""

    @property
    def warnings(self) -> list[str]:
        """What is known against its scores, of each fused run too."""
        said = dict.fromkeys(warning for run in self._runs() for warning in run.state.get("warnings", ()))
        if self.run and self.run.state.get("status") != "finished":
            said["Training has not finished: these scores are of the best epoch when it was evaluated."] = None
        return list(said)

    @property
    def decision(self) -> list[tuple[str, str]]:
        """Names and values of how temperature and operating point were found, those that it knows."""
        path = self.folder / "decision.json"
        content = read_json(path, RunError, "Train again, or fuse the runs again.") if path.is_file() else {}
        evidence = content.get("evidence", {}) if isinstance(content, dict) else {}
        if not isinstance(evidence, dict):
            return []
        images, validation = evidence.get("images"), evidence.get("of_the_validation_part")
        other = images - validation if isinstance(images, int) and isinstance(validation, int) else 0
        out_of_fold = f", of which {other} of the training part, by classifiers that had not learned from them"
        known = [
            ("Operating point", _rounded(content.get("threshold"))),
            ("Chosen as", _POINTS.get(str(evidence.get("operating_point")), "")),
            ("Found on", f"{images} images of {evidence.get('patients')} patients{out_of_fold if other else ''}"),
            ("ROC AUC there", _rounded(evidence.get("roc_auc"))),
            ("Sensitivity there", _rounded(evidence.get("sensitivity"))),
            ("Specificity there", _rounded(evidence.get("specificity"))),
            ("Temperature", _rounded(content.get("temperature"))),
        ]
        return [(name, value) for name, value in known if value]

    @property
    def training(self) -> list[tuple[str, str]]:
        """Names and values of how training went, or of what is fused and with which weights."""
        if self.run is None:
            return self._fused()
        state = self.run.state
        estimator = state.get("estimator", {})
        known = [
            *contents.training(self.run),
            ("Best validation AUC", _rounded(state.get("best_validation_auc"))),
            ("Training images", str(state.get("training_images", ""))),
            ("Classifier", str(estimator.get("name", ""))),
            ("AUC in cross-validation", _listed(estimator.get("inner_auc", {}))),
        ]
        return [(name, value) for name, value in known if value]

    @property
    def provenance(self) -> list[tuple[str, str]]:
        """Names and values of what is needed to make it again; of a fusion those of its first run."""
        if self.run:
            return contents.provenance(self.run)
        first = self._runs()[:1]
        return [
            ("Fusion", str(self.folder.resolve())),
            *(("Run", path) for path in self.members),
            *(row for run in first for row in contents.provenance(run) if row[0] not in ("Run folder", "Command")),
        ]

    @property
    def recipe_toml(self) -> str:
        """The recipe; '' of a fusion."""
        return dump_toml(self.run.recipe) if self.run else ""

    def _runs(self) -> list[Run]:
        """The run, or those fused that are still there."""
        if self.run:
            return [self.run]
        return [Run(path) for path in self.members if (Path(path) / "run.json").is_file()]

    def _fused(self) -> list[tuple[str, str]]:
        fusion = self._fusion["fusion"]
        weights = fusion.get("weights") or ["" for _ in self.members]
        rows = [("How", str(fusion.get("how", "")))]
        for path, weight in _beside(self.members, weights):
            rows.append((Path(path).name, f"weight {_rounded(weight)}" if weight != "" else "fused"))
        return [(name, value) for name, value in rows if value]


def _beside(members: Iterable[str], weights: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    return zip(members, weights, strict=False)


def _rounded(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else ""


def _listed(scores: Any) -> str:
    return ", ".join(f"{name} {_rounded(value)}" for name, value in scores.items()) if isinstance(scores, dict) else ""
