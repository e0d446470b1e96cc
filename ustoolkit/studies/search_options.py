"""What is asked of a search of hyper-parameters, resolved and checked before anything trains."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ustoolkit.data.records import Records
from ustoolkit.data.split import read_splits
from ustoolkit.errors import RecipeError, RunError
from ustoolkit.files import write_bytes
from ustoolkit.recipe import Recipe, load_recipe, shipped_recipes
from ustoolkit.run import Run
from ustoolkit.studies.search_space import SearchSpace, Values, default_space, describe_space, overrides_of, read_space


@dataclass(frozen=True)
class SearchOptions:
    """What is asked of a search.

    Attributes:
        recipe: a path, or the name of a shipped one.
        records: folder to train and validate on.
        out: folder of the search.
        splits: a `splits.json`; None for the one in the records folder.
        minutes: after which no trial begins and those under way end, over all sittings.
        trials: how many at most, over all sittings; 0 for as many as there is time for.
        search: 'table.key=low..high' or 'table.key=this|that'; none for a space that suits the recipe.
        jobs: how many trials at a time; 0 for one a core.
        preview: whether the recipe is made small by its `[preview]`.
        seed: of what is tried; that of the training itself is the recipe's.
        changes: 'table.key=value', for every trial.
    """

    recipe: str
    records: Path
    out: Path
    splits: Path | None = None
    minutes: float = 30.0
    trials: int = 0
    search: tuple[str, ...] = ()
    jobs: int = 0
    preview: bool = False
    seed: int = 0
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Search:
    """A search that can begin.

    Attributes:
        options: as asked.
        recipe: resolved, as it is without any of what is tried.
        space: what is tried, by setting.
        records_digest: of the records.
        splits_digest: of which image is in which part.
    """

    options: SearchOptions
    recipe: Recipe
    space: SearchSpace
    records_digest: str
    splits_digest: str

    @property
    def score(self) -> str:
        """Column of a run's history that trials are judged by."""
        return "validation_auc" if self.recipe.classifies else "validation_dice"

    @cached_property
    def asked(self) -> dict[str, Any]:
        """What must be the same where the search goes on, JSON-serialisable."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "search": describe_space(self.space),
            "seed": self.options.seed,
            "records": self.records_digest,
            "splits": self.splits_digest,
        }

    def load(self, changes: Sequence[str]) -> Recipe:
        """The recipe with changes 'table.key=value' beside those of the options.

        Raises:
            RecipeError: they are not valid, or make of a recipe that segments one that classifies or the reverse.
        """
        found = _load(self.options, changes)
        if found.classifies != self.recipe.classifies:
            raise RecipeError(
                f"{', '.join(changes)}: a network that segments and one that classifies have no score in common. "
                "Search among networks of one kind."
            )
        return found

    def folder(self, number: int) -> Path:
        """Run folder of a trial."""
        return self.options.out / "trials" / f"{number:04}"

    def command(self, number: int, values: Values) -> tuple[str, ...]:
        """Arguments of `ustoolkit` that train a trial, or go on with one that has begun."""
        options, folder = self.options, self.folder(number)
        common = ("--records", str(options.records), "--out", str(folder))
        if (folder / "run.json").is_file():  # its own recipe has the name that resuming compares, preview or not
            return ("train", str(folder / "recipe.toml"), *common, "--resume")
        words = [word for change in _ordered(options, overrides_of(values)) for word in ("--set", change)]
        words += ["--splits", str(options.splits)] if options.splits else []
        words += ["--preview"] if options.preview else []
        return ("train", options.recipe, *common, *words)

    def is_finished(self, folder: Path) -> bool:
        """Whether the run of a trial has come to its end.

        Raises:
            RunError: it cannot be read.
        """
        if not (folder / "run.json").is_file():
            return False
        decided = not self.recipe.classifies or (folder / "decision.json").is_file()
        return decided and Run(folder).state.get("status") == "finished"

    def score_of(self, folder: Path) -> float:
        """Best validation score of a run that is finished.

        Raises:
            RunError: it cannot be read, or says no score.
        """
        score = Run(folder).state.get(f"best_{self.score}")
        if not isinstance(score, int | float):
            raise RunError(f"{folder / 'run.json'}: expected a number best_{self.score}, found {score!r}. Search anew.")
        return float(score)


def open_search(options: SearchOptions) -> Search:
    """Resolves and checks all that is asked.

    Raises:
        RecipeError: the recipe, a change, or what is to be searched is not valid.
        RecordsError: records or split cannot be used.
    """
    recipe = _load(options, ())
    records = Records(options.records)
    parts = read_splits(options.splits or records.folder / "splits.json", records)
    content = json.dumps({name: sorted(ids) for name, ids in parts.items()}, sort_keys=True)
    bare = Search(options, recipe, {}, records.digest, hashlib.sha256(content.encode()).hexdigest())
    if options.search:
        space = read_space(options.search, options.changes, bare.load)
    else:
        space = default_space(recipe, options.changes, bare.load)
    return Search(options, recipe, space, bare.records_digest, bare.splits_digest)


def with_own_recipe(search: Search) -> Search:
    """The search with a copy of its recipe in its folder, so that changes to the file change no later trial.

    Raises:
        OutputError: the folder cannot be written to.
    """
    if search.options.recipe in shipped_recipes():
        return search
    copy = search.options.out / "recipe.toml"
    write_bytes(copy, Path(search.options.recipe).read_bytes())
    return replace(search, options=replace(search.options, recipe=str(copy)))


def _load(options: SearchOptions, changes: Sequence[str]) -> Recipe:
    return load_recipe(options.recipe, _ordered(options, changes), options.preview)


def _ordered(options: SearchOptions, changes: Sequence[str]) -> list[str]:
    """Changes to apply: a network that is tried comes before the user's settings of it, since it begins afresh."""
    network = [change for change in changes if change.startswith("model.name=")]
    return [*network, *options.changes, *(change for change in changes if change not in network)]
