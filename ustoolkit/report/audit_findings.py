"""What is wrong with the data set, by an audit where one is known, else by the index of the records."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ustoolkit.data.audit import audit_records, summary_line
from ustoolkit.data.records import Records
from ustoolkit.errors import DataError
from ustoolkit.files import read_json
from ustoolkit.report.audit_page import RESULT_FILE
from ustoolkit.report.scores import ImageScore
from ustoolkit.run import Run

_REMEDY = "Make it with 'ustoolkit inspect DATA --out FOLDER'."


def audit_findings(
    run: Run, records: Records, scores: Sequence[ImageScore], given: Path | None = None
) -> dict[str, Any]:
    """The audit of the images that a run was evaluated on.

    Args:
        run: whose folder may hold one, as `audit.json` or `audit/audit.json`; so may the records and their folder.
        records: that were evaluated.
        scores: of the evaluated images.
        given: an audit's file or folder, instead of those.
    Returns:
        dict of `file`, `summary` (a line), `problems` (of each kind severity, kind, remedy, images and how many of them
        are `shown` on the page), `by_image` (kinds of problem by source id, those shown) and `foreign` (whether no
        image that it names is in the records). Where no audit is known, or only a foreign one that was not given, this
        is what the index of the records alone tells, and `file` is ''.
    Raises:
        DataError: the given file is missing, or one that was found is no audit.
    """
    if given is not None:
        return _of_file(given / RESULT_FILE if given.is_dir() else given, records, scores)
    for folder in (run.folder, records.folder, records.folder.parent):
        for path in (folder / RESULT_FILE, folder / "audit" / RESULT_FILE):
            if path.is_file() and not (found := _of_file(path, records, scores))["foreign"]:
                return found
    parts = run.splits if records.digest == run.manifest["digest"] else None
    return _told({"problems": audit_records(records, parts), "refused": []}, records, scores)


def _of_file(path: Path, records: Records, scores: Sequence[ImageScore]) -> dict[str, Any]:
    result = read_json(path, DataError, _REMEDY)
    try:
        return {**_told(result, records, scores), "file": str(path)}
    except (KeyError, TypeError, AttributeError) as problem:
        raise DataError(f"{path}: expected an audit, found something else ({problem}). {_REMEDY}") from None


def _told(result: dict[str, Any], records: Records, scores: Sequence[ImageScore]) -> dict[str, Any]:
    shown = {score.source_id for score in scores}
    problems, by_image, named = [], defaultdict(list), set()
    for problem in result["problems"]:
        concerned = shown.intersection(problem["source_ids"])
        for source_id in concerned:
            by_image[source_id].append(problem["kind"])
        named.update(problem["source_ids"])
        told = {key: str(problem[key]) for key in ("kind", "severity", "remedy")}
        problems.append({**told, "images": len(problem["source_ids"]), "shown": len(concerned)})
    return {
        "file": "",
        "summary": summary_line(result),
        "problems": problems,
        "by_image": dict(by_image),
        "foreign": bool(named) and named.isdisjoint(row.source_id for row in records.index),
    }
