"""Where a search keeps its trials: Optuna's study in a file that outlives whatever ends the process."""

from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from ustoolkit.errors import OutputError
from ustoolkit.studies.search_options import Search
from ustoolkit.studies.search_results import trials_known

_JOURNAL, _STUDY = "trials.journal", "search"
_FINISHED_BEFORE_PRUNING = 5
_MOST_WARM_UP_EPOCHS = 10


def open_study(search: Search) -> optuna.Study:
    """Opens the study of a search, or begins it.

    Its pruner ends a trial whose best score so far is below the median that finished trials had at the same epoch, from
    the sixth trial on, and after a quarter of the epochs or ten of them.

    Args:
        search: which; its folder is held by the caller.
    Raises:
        OutputError: what is there cannot be read, or holds fewer trials than `tune.json`.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would tell of every trial, and we do
    path = search.options.out / _JOURNAL
    _drop_torn_line(path)
    warm_up = max(1, min(_MOST_WARM_UP_EPOCHS, search.recipe.training.epochs // 4))
    try:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path), _HeldAlready(str(path)))),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_FINISHED_BEFORE_PRUNING, n_warmup_steps=warm_up),
            study_name=_STUDY,
            direction="maximize",
            load_if_exists=True,
        )
        whole = len(study.get_trials(deepcopy=False)) >= trials_known(search)
    except (ValueError, KeyError, TypeError, AttributeError):  # as a line that is none of Optuna's shows
        whole = False
    if not whole:
        raise OutputError(f"{path}: expected the trials of this search, and they are damaged. Choose another --out.")
    return study


class _HeldAlready(JournalFileOpenLock):
    """No lock, since the folder has one; Optuna's would stay behind where the process is killed."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _drop_torn_line(path: Path) -> None:
    """A process killed while it wrote leaves half a line, that the next one would be written behind."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
