"""A notebook as a page of the site: its text, its code, and what the code put out when it was last run."""

from typing import Any

MOST_LINES = 60  # of one cell's printed output


def as_markdown(notebook: dict[str, Any]) -> str:
    """The notebook's cells in Markdown, in their order; pictures lie within the page.

    Args:
        notebook: an .ipynb file's content, format 4.
    """
    parts = []
    for cell in notebook["cells"]:
        source = _text(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source.strip():
            parts.append(_fenced(source, "python"))
            parts += [_output(output) for output in cell.get("outputs", [])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="what the cell above drew" src="data:image/png;base64,{_text(data["image/png"]).strip()}">'
    printed = _text(output.get("text", data.get("text/plain", ""))).rstrip("\n")
    if printed.startswith("<IPython"):
        return ""  # names an object that only a notebook draws
    lines = printed.split("\n")
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"… and {len(lines) - MOST_LINES} lines more"]
    return _fenced("\n".join(lines), "text") if printed.strip() else ""


def _fenced(text: str, language: str) -> str:
    fence = "```" if "```" not in text else "~~~~"
    return f"{fence}{language}\n{text}\n{fence}"


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)
