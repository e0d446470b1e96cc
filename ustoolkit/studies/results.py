"""What a study leaves behind: tables of what is finished so far, the list of its runs, and figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ustoolkit.errors import UstoolkitError
from ustoolkit.run import Run
from ustoolkit.studies import tables
from ustoolkit.studies.asked import StudyOptions, folds_of, left_out
from ustoolkit.studies.comparison import CRF, Comparison, Study
from ustoolkit.studies.ladder_table import LADDER, ladder_table
from ustoolkit.studies.plan import Planned, PlannedRun
from ustoolkit.studies.scores import ArmScores, ScoredImages, read_scores, tested_images
from ustoolkit.studies.stages import FinishedRuns, StudyData
from ustoolkit.studies.table_files import Lines, Row, write_csv, write_table

RUNS = "runs"


@dataclass
class Results:
    """What there is so far.

    Attributes:
        study: which.
        options: what is asked of it.
        planned: all runs, as planned now.
        finished: names of those that are trained and scored.
        failed: names of those that failed.
        data: what they are trained on.
        tables: rows by name of the table, as far as they were written.
        scores: of segmentation, by arm, as far as tables were written.
        pages: the tables as Markdown, by name.
    """

    study: Study
    options: StudyOptions
    planned: Sequence[Planned]
    finished: set[str]
    failed: set[str]
    data: StudyData
    tables: dict[str, list[Row]] = field(default_factory=dict)
    scores: dict[str, ArmScores] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)

    def finished_runs(self, arms: Sequence[str]) -> list[PlannedRun]:
        """The finished runs of some arms, in the order of the plan."""
        return [run for run in self._scored(set(arms)) if run.name in self.finished]

    def missing(self, arms: set[str]) -> dict[str, str]:
        """Why runs of some arms are not there, by name."""
        lacking = [run.name for run in self._asked(arms) if run.name not in self.finished]
        return {name: "failed" if name in self.failed else "not trained yet" for name in lacking}

    def write_comparisons(self, arm: str = "") -> None:
        """Writes the tables of segmentation that hold an arm; all where it is ''. One without planned runs is left out.

        Raises:
            RunError: a finished run's tables cannot be read.
            OutputError: the folder cannot be written to.
        """
        for comparison in self._comparisons():
            if not arm or arm in comparison.trained:
                self._compare(comparison)
        ladder = self.study.ladder
        if ladder and (not arm or arm in {step.name for step in ladder.steps}):
            runs = self._scored({step.name for step in ladder.steps})
            images = tested_images(runs, self.data)
            scores = self._read([step.name for step in ladder.steps], images)
            about = self._explain({step.name for step in ladder.steps}, images, differences=False)
            table = ladder_table(ladder, self.options, runs, scores, images, about)
            self._write(LADDER, table.title, table.rows, (table.header, table.lines), table.about)

    def write_own(self) -> None:
        """Writes the tables that the study makes itself.

        Raises:
            RunError: a finished run's tables cannot be read.
            OutputError: the folder cannot be written to.
        """
        if not self.study.tabulate:
            return
        compared = {name for comparison in self.study.comparisons for name in comparison.trained}
        own = [run for run in self.planned if not run.pretraining and run.arm.name not in compared]
        done = [run for run in own if run.name in self.finished]
        lacking = left_out(self.study, self.options)
        lacking = {name: option for name, option in lacking.items() if name not in compared}
        missing = self.missing({run.arm.name for run in own})
        for table in self.study.tabulate(FinishedRuns(done, self.options, missing, lacking)):
            self._write(table.name, table.title, table.rows, (table.header, table.lines), table.about)

    def write_runs(self, state: Mapping[str, Any]) -> None:
        """Writes which run is behind the tables: its folder, recipe and settings, and what came out.

        Args:
            state: what is known of each run, by name: status and error.
        """
        rows = [self._run_row(run, state[run.name]) for run in self.planned]
        write_csv(self.options.out / f"{RUNS}.csv", rows)

    def draw(self) -> list[Path]:
        """Writes the study's figures, each as PNG and SVG.

        Returns:
            the PNG files.
        """
        if not self.study.draw:
            return []
        from ustoolkit.report.figure_files import write_figure  # matplotlib takes a second

        written = []
        for name, figure in self.study.draw(self).items():
            written.append(self.options.out / f"{name}.png")
            write_figure(written[-1], figure)
            write_figure(self.options.out / f"{name}.svg", figure)
        return written

    def _comparisons(self) -> list[Comparison]:
        """Those of the study, each without the arms that are left out; none without any other."""
        lacking = left_out(self.study, self.options)
        shown = []
        for each in self.study.comparisons:
            arms = tuple(line for line in each.arms if line[1].removesuffix(CRF) not in lacking)
            if arms:
                shown.append(replace(each, arms=arms))
        return shown

    def _compare(self, comparison: Comparison) -> None:
        images = tested_images(self._scored(comparison.trained), self.data)
        scores = self._read(sorted(comparison.trained), images)
        rows = tables.compare(comparison, scores, images)
        whole = next(each for each in self.study.comparisons if each.name == comparison.name)
        pixels = comparison.pixels and tables.counts_pixels(rows)
        about = self._explain(whole.trained, images, pixels=pixels, differences=len(rows) > 1)
        self._write(comparison.name, comparison.title, rows, tables.comparison_lines(comparison, rows), about)
        if comparison.by_size:
            rows, limits = tables.compare_by_size(comparison, scores, images)
            about = self._explain(whole.trained, images, by_size=True)
            name, title = f"{comparison.name}-by-size", f"{comparison.title}, by size of the lesion"
            self._write(name, title, rows, tables.size_lines(comparison, rows, limits), about)

    def _read(self, arms: Sequence[str], images: ScoredImages) -> dict[str, ArmScores]:
        scores = read_scores(self.finished_runs(arms), images, self.data)
        self.scores |= scores
        return scores

    def _explain(self, arms: set[str], images: ScoredImages, **what: bool) -> str:
        lacking = left_out(self.study, self.options)
        folds = folds_of(self.study, self.options)
        return tables.explain(
            images,
            self.options.seeds,
            self.missing(arms),
            self.options.preview,
            {name: option for name, option in lacking.items() if name in arms},
            folds=folds[-1],
            **what,
        )

    def _run_row(self, planned: Planned, known: Mapping[str, Any]) -> Row:
        out = self.options.out
        row: Row = {"run": planned.name, "arm": planned.arm.name, "seed": planned.seed, "fold": planned.fold or ""}
        row |= {"status": known["status"], "folder": str(planned.folder.relative_to(out))}
        state: Mapping[str, Any] = {}
        settings: tuple[str, ...] = ()
        row |= {"records": "", "recipe": ""}
        if isinstance(planned, PlannedRun):
            opened = self.data.of(planned)
            row["records"] = f"{opened.records.folder.name} {opened.records.digest[:12]}" if opened else ""
            row["recipe"] = planned.recipe.name
            settings = () if planned.undecided else planned.overrides
            state = _state(planned.folder)
        # Folders are named as within the study, not on this machine.
        row["settings"] = " ".join(text.replace(f"{out.resolve()}/", "") for text in settings)
        error = known["error"].replace(f"{out.resolve()}/", "").replace(f"{out}/", "")
        return {**row, **_outcome(state), "error": error}

    def _asked(self, arms: set[str]) -> list[Planned]:
        return [run for run in self.planned if run.arm.name in arms and not run.pretraining]

    def _scored(self, arms: set[str]) -> list[PlannedRun]:
        return [run for run in self._asked(arms) if isinstance(run, PlannedRun)]

    def _write(self, name: str, title: str, rows: list[Row], to_read: tuple[Sequence[str], Lines], about: str) -> None:
        header, lines = to_read
        self.tables[name] = rows
        self.pages[name] = write_table(self.options.out / name, title, rows, header, lines, about)


def _state(folder: Path) -> Mapping[str, Any]:
    try:
        return Run(folder).state if (folder / "run.json").is_file() else {}
    except UstoolkitError:
        return {}


def _outcome(state: Mapping[str, Any]) -> Row:
    score = state.get("best_validation_dice", math.nan)
    return {
        "validation": state.get("best_validation_auc", score),
        "best_epoch": state.get("best_epoch", math.nan),
        "epochs": state.get("epochs", math.nan),
        "minutes": round(state.get("training_seconds", math.nan) / 60, 2),
        "started": state.get("started", ""),
    }
