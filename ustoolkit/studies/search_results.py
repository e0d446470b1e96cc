"""What a search of hyper-parameters leaves: the best recipe, a table of all trials, a picture, and what they say."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ustoolkit import __version__
from ustoolkit.errors import OutputError, RunError
from ustoolkit.files import read_json, write_json, write_text
from ustoolkit.recipe import dump_toml
from ustoolkit.report.figure_files import write_figure
from ustoolkit.report.search_figures import TrialPoint, search_figure
from ustoolkit.studies.search_options import Search
from ustoolkit.studies.search_space import overrides_of
from ustoolkit.studies.table_files import write_csv

SEARCH_FILE, BEST_RECIPE = "tune.json", "best.toml"
FEWEST_FOR_IMPORTANCES = 8  # finished trials
_REMEDY = "Choose another --out, or remove the folder."
_NAMES = {"validation_dice": "validation Dice", "validation_auc": "validation AUC"}
_COLUMNS = ("number", "state", "score", "epochs", "minutes", "folder", "reason")

Row = dict[str, Any]


def score_name(search: Search) -> str:
    """The score that trials are judged by, in words."""
    return _NAMES[search.score]


def seconds_spent(search: Search) -> float:
    """What earlier sittings of a search took; 0 where there were none.

    Raises:
        OutputError: `tune.json` is damaged.
    """
    return float(_old(search).get("seconds", 0.0))


def trials_known(search: Search) -> int:
    """How many trials of a search `tune.json` tells of, which is written after them."""
    return len(_old(search).get("trials", ()))


def check_same(search: Search) -> None:
    """Makes sure that what a folder holds, if anything, is the search that is asked for.

    Raises:
        RunError: it is another one; the message says what differs.
        OutputError: `tune.json` is damaged.
    """
    old = _old(search)
    if not old:
        return
    there, asked = old.get("asked", {}), search.asked
    differences = []
    for key in ("recipe", "search"):
        found, wanted = _flat(there.get(key, {})), _flat(asked[key])
        names = [name for name in dict.fromkeys([*found, *wanted]) if found.get(name) != wanted.get(name)]
        differences += [f"{key} {name} is {found.get(name)} there, {wanted.get(name)} is asked" for name in names]
    if there.get("seed") != asked["seed"]:
        differences.append(f"--seed is {there.get('seed')} there, {asked['seed']} is asked")
    if there.get("records") != asked["records"]:
        differences.append("it is on other records")
    elif there.get("splits") != asked["splits"]:
        differences.append("it is on another split")
    if not differences and list(there["search"]) != list(asked["search"]):
        differences.append(f"the order of --search is {', '.join(there['search'])}")
    if differences:
        raise RunError(
            f"{search.options.out}: there is another search: {'; '.join(differences)}. Ask as before to go on with it, "
            "or choose another --out."
        )


def write_state(search: Search, seconds: float, study: optuna.Study) -> Row:
    """Writes `tune.json` and `trials.csv` as they are now.

    Args:
        search: which.
        seconds: spent on it, over all sittings.
        study: Optuna's.
    Returns:
        what `tune.json` holds.
    Raises:
        OutputError: the folder cannot be written to.
    """
    options = search.options
    rows = trial_rows(search, study)
    state = {
        "recipe": search.recipe.name,
        "ustoolkit": __version__,
        "optuna": optuna.__version__,
        "records": str(options.records.resolve()),
        "splits": str(options.splits.resolve()) if options.splits else "",
        "preview": options.preview,
        "set": list(options.changes),
        "seconds": round(seconds, 1),
        "minutes": options.minutes,
        "score": score_name(search),
        "asked": search.asked,
        "trials": rows,
    }
    write_json(options.out / SEARCH_FILE, state)
    if rows:
        flat = [{**{key: row[key] for key in _COLUMNS}, **row["settings"]} for row in rows]
        write_csv(options.out / "trials.csv", flat)
    return state


def trial_rows(search: Search, study: optuna.Study) -> list[Row]:
    """One row a trial that has begun.

    Returns:
        with 'number'; 'state': finished, pruned, failed, or unfinished; 'score', the best on the validation part, NaN
        where there is none; 'epochs'; 'minutes' of the trial with its start; 'folder' within the search; 'reason' of a
        failure; 'settings', as TOML text; and 'ended_minute' of the search, NaN of one unfinished.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.WAITING or not set(search.space) <= set(trial.params):
            continue
        attributes, values = trial.user_attrs, trial.intermediate_values.values()
        finished = trial.state is TrialState.COMPLETE  # the value of one pruned would be its last, not its best
        best = trial.value if finished else max(values, default=math.nan)
        rows.append(
            {
                "number": trial.number,
                "state": attributes.get("outcome", "unfinished") if trial.state.is_finished() else "unfinished",
                "score": best,
                "epochs": len(values),
                "minutes": round(attributes.get("seconds", 0.0) / 60, 3),
                "folder": str(search.folder(trial.number).relative_to(search.options.out)),
                "reason": attributes.get("reason", ""),
                "settings": {key: str(trial.params[key]) for key in search.space},
                "ended_minute": attributes.get("ended_after_seconds", math.nan) / 60,
            }
        )
    return rows


def write_results(search: Search, seconds: float, study: optuna.Study, own: Mapping[str, Any]) -> Row:
    """Writes the best recipe and the picture beside the tables.

    The best is the best of the finished trials; where none is, of the others that have a score.

    Args:
        search: which.
        seconds: spent on it, over all sittings.
        study: Optuna's.
        own: the recipe's own values; none where they are not among what can be tried.
    Returns:
        what `tune.json` holds: with 'best', a row of `trial_rows`; 'own', the score of the recipe as it is, None where
        no finished trial had it; and 'importances' by setting, none where too few trials are finished.
    Raises:
        RunError: no trial came to a score.
        OutputError: the folder cannot be written to.
    """
    out, state = search.options.out, write_state(search, seconds, study)
    rows = state["trials"]
    best = best_trial(rows)
    if best is None:
        raise RunError(_nothing_came(search, rows))
    values = next(trial.params for trial in study.get_trials(deepcopy=False) if trial.number == best["number"])
    recipe = search.load(overrides_of(values)).model_copy(update={"name": f"{search.recipe.name}-tuned"})
    write_text(out / BEST_RECIPE, dump_toml(recipe))
    as_it_is = {key: str(value) for key, value in own.items()}
    state["best"] = best
    state["own"] = next(
        (row["score"] for row in rows if row["state"] == "finished" and row["settings"] == as_it_is), None
    )
    state["importances"] = importances(study)
    write_json(out / SEARCH_FILE, state)
    points = [
        TrialPoint(seconds / 60 if math.isnan(row["ended_minute"]) else row["ended_minute"], row["score"], row["state"])
        for row in rows
        if not math.isnan(row["score"]) and row["state"] != "failed"
    ]
    write_figure(out / "trials.png", search_figure(points, state["score"]))
    return state


def best_trial(rows: Sequence[Row]) -> Row | None:
    """The best of the finished trials, the first of several alike; where none is finished, of those with a score."""
    scored = [row for row in rows if not math.isnan(row["score"]) and row["state"] != "failed"]
    finished = [row for row in scored if row["state"] == "finished"]
    return max(finished or scored, key=lambda row: (row["score"], -row["number"]), default=None)


def importances(study: optuna.Study) -> dict[str, float]:
    """How much of what finished trials differ by goes with each setting, as Optuna's PED-ANOVA has it; rough.

    Returns:
        shares that sum to 1, largest first; none below `FEWEST_FOR_IMPORTANCES` finished trials, or where all have
        one score.
    """
    finished: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(finished) < FEWEST_FOR_IMPORTANCES or len({trial.value for trial in finished}) == 1:
        return {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Target and region quantiles")  # then shares are equal, which shows
        found = optuna.importance.get_param_importances(study)
    return {key: round(float(share), 3) for key, share in found.items()}


def _nothing_came(search: Search, rows: Sequence[Row]) -> str:
    out, failed = search.options.out, [row for row in rows if row["state"] == "failed"]
    if failed and len(failed) == len(rows):
        return (
            f"{out}: every trial failed; {failed[0]['folder']}: {failed[0]['reason']}\nThe whole output is in "
            f"{out / 'logs'}. Put that right, and search in another --out."
        )
    return (
        f"{out}: no trial came to the end of an epoch within {search.options.minutes:g} minutes. The same command with "
        "more --minutes goes on; or search in another --out with --preview or a smaller recipe."
        + (f" {len(failed)} failed; {failed[0]['folder']}: {failed[0]['reason']}" if failed else "")
    )


def _old(search: Search) -> dict[str, Any]:
    path = search.options.out / SEARCH_FILE
    if not path.is_file():
        return {}
    content = read_json(path, OutputError, _REMEDY)
    if not isinstance(content, dict) or not isinstance(content.get("asked"), dict):
        raise OutputError(f"{path}: expected what a search left there, found something else. {_REMEDY}")
    return content


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
