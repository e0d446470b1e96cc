"""What `explain` left in a run's folder, for the run's page."""

import base64
from typing import Any

from ustoolkit.errors import RunError
from ustoolkit.files import read_json
from ustoolkit.run import Run

EXPLANATION_FILE = "explanation.json"
_AGAIN = "Run 'ustoolkit explain RUN --overwrite' again, or remove the folder."
_NAMES = {"poster": "poster", "statistics": "statistics", "changes_figure": "changes"}
_SHOWN_IMAGES = 12


def explanation_section(run: Run) -> dict[str, Any] | None:
    """The pictures and tables of a run's `explain/`.

    Args:
        run: a run.
    Returns:
        by name 'poster', 'statistics' and 'changes', `data:` addresses of PNG files, '' where there is none; 'layers',
        rows of the table; 'before', the network compared with, or ''; 'images', the panels of some images; 'more', how
        many images are left out; 'warning', '' unless the run's weights are others now. None where nothing was
        explained.
    Raises:
        RunError: the folder is damaged.
    """
    if not (run.explanation / EXPLANATION_FILE).is_file():
        return None
    content = read_json(run.explanation / EXPLANATION_FILE, RunError, _AGAIN)
    try:
        explained = content.get("explained", [])
        found = {name: _address(run, content.get(key, "")) for key, name in _NAMES.items()}
        return {
            **found,
            "warning": _older(run, content),
            "layers": [_layer(row, content.get("changes", [])) for row in content.get("layers", [])],
            "seen": content.get("statistics_images", 0),
            "before": content.get("before", ""),
            "images": [_image(run, row) for row in explained[:_SHOWN_IMAGES]],
            "more": max(0, len(explained) - _SHOWN_IMAGES),
        }
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise RunError(
            f"{run.explanation / EXPLANATION_FILE}: expected what explaining wrote, found something else "
            f"({problem!r}). {_AGAIN}"
        ) from None


def _older(run: Run, content: dict[str, Any]) -> str:
    explained, best = content.get("epoch"), run.state.get("best_epoch")
    if "epoch" not in content or explained == best:
        return ""
    return f"This is of epoch {explained}, and the run's best is now epoch {best}. {_AGAIN}"


def _layer(row: dict[str, Any], changes: list[dict[str, Any]]) -> dict[str, Any]:
    field = row["receptive_field"]
    change = next((each for each in changes if each["layer"] == row["layer"]), {})
    return {
        "layer": row["layer"],
        "filters": row["filters"],
        "field": "whole image" if None in field else f"{field[0]:g} × {field[1]:g}",
        "effective": row.get("effective_receptive_field"),
        "dead": len(row["dead"]) if "dead" in row else None,
        "sparsity": row.get("sparsity"),
        "weight_distance": change.get("weight_distance"),
        "cka": change.get("cka"),
    }


def _image(run: Run, row: dict[str, Any]) -> dict[str, Any]:
    sanity = [f"{name}: {found['message']}" for name, found in row.get("sanity", {}).items()]
    return {"name": row["image"], "target": row["target"], "panel": _address(run, row["panel"]), "sanity": sanity}


def _address(run: Run, name: str) -> str:
    """A PNG file of the folder as a `data:` address; '' without a name."""
    if not name:
        return ""
    try:
        content = (run.explanation / name).read_bytes()
    except OSError:
        raise RunError(f"{run.explanation / name}: expected a picture, found none. {_AGAIN}") from None
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
