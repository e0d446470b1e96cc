"""One split, or one for each fold, as it is asked for; and the files that they go to."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ustoolkit.data.records import IndexRow
from ustoolkit.data.split import Splits, split_folds, split_own_folds, split_patients
from ustoolkit.errors import RecordsError
from ustoolkit.files import safe_name
from ustoolkit.recipe import validate
from ustoolkit.recipe.data_set import SplitSettings


def draw_splits(
    index: Iterable[IndexRow],
    asked: Mapping[str, Any],
    folds: int | None = None,
    allow_leak: bool = False,
    kept_test: Collection[str] = (),
) -> dict[str, tuple[Splits, dict[str, Any]]]:
    """Divides annotated images once, or once a fold.

    Args:
        index: the records' index.
        asked: settings of `SplitSettings` that were given. An attribute of folds without folds to test on means each
            of them in turn.
        folds: how many folds to draw for cross-validation; None for none.
        allow_leak: whether folds of the data set may divide a patient or a picture.
        kept_test: with `folds`, source ids that every fold tests on.
    Returns:
        for each fold (one, named '', where there are none) the split, and how it was drawn.
    Raises:
        RecordsError: settings that exclude each other, or a split that cannot be made.
        RecipeError: a setting that is not valid.
    """
    asked = dict(asked)
    if folds is not None and {"test", "fold_attribute", "test_folds"} & asked.keys():
        raise RecordsError("--folds draws every part; leave out --test, --fold-attribute and --test-folds.")
    if kept_test and folds is None:
        raise RecordsError("--keep-test is for --folds: name how many folds divide what is left. Or leave it out.")
    attribute = asked.pop("fold_attribute", "") if "test_folds" not in asked else ""
    how = validate(SplitSettings, asked, "split").model_dump(mode="json")
    shared = {"validation": how["validation"], "seed": how["seed"]}
    if folds is not None:
        drawn = enumerate(split_folds(index, folds, **shared, kept_test=kept_test), start=1)
        kept = {"kept_test": len(kept_test)} if kept_test else {}
        return {str(number): (splits, {"folds": folds, "fold": number, **shared, **kept}) for number, splits in drawn}
    if attribute:
        by_fold = split_own_folds(index, attribute, allow_leak=allow_leak, **shared)
        return {
            fold: (splits, {"fold_attribute": attribute, "test_folds": [fold], **shared})
            for fold, splits in by_fold.items()
        }
    return {"": (split_patients(index, **how, allow_leak=allow_leak), how)}


def splits_file(out: Path, fold: str) -> Path:
    """Where a split goes: into a folder under the usual name, or to the file named, with the fold in its name."""
    file = out if out.suffix == ".json" and not out.is_dir() else out / "splits.json"
    return file.with_stem(f"{file.stem}-fold{safe_name(fold)}") if fold else file
