"""Whether a run has what a page shows: an evaluation of its part."""

from ustoolkit.errors import RunError
from ustoolkit.evaluation.tables import METRICS_FILE
from ustoolkit.run import Run


def evaluations(run: Run) -> list[str]:
    """The names of a run's evaluations, in the order of the alphabet."""
    return sorted(path.parent.name for path in run.evaluation("any").parent.glob(f"*/{METRICS_FILE}"))


def check_evaluated(run: Run, part: str) -> None:
    """Checks that a run was evaluated.

    Args:
        run: any.
        part: name of the evaluation.
    Raises:
        RunError: it was not, or its training has not come so far.
    """
    found = evaluations(run)
    if part in found:
        return
    evaluate = f"'ustoolkit evaluate {run.folder}{'' if part == 'test' else f' --split {part}'}'"
    if not found and run.state["status"] != "finished":
        raise RunError(
            f"{run.folder}: expected an evaluated run, found one whose training has not finished. Finish it with "
            f"'ustoolkit train --resume', then score it with {evaluate}."
        )
    remedy = f"Run {evaluate} first" + (f", or choose one of those by --split {found[0]}." if found else ".")
    there = f"only {', '.join(found)}" if found else "none"
    raise RunError(f"{run.folder}: expected an evaluation '{part}', found {there}. {remedy}")
