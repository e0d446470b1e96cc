"""Pages as HTML: one template environment, style and scripts put inside, so that a page needs nothing beside it."""

import base64
import hashlib
import io
import math
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from PIL import Image

JPEG_QUALITY = 85


def render_page(template: str, /, **values: Any) -> str:
    """Fills a template of this package.

    In templates numbers are written by the filters `number` (– for none) and `signed`, and `text_of("report.css")` is a
    file of this package as it stands. A script inside the page runs where the page's policy names its `digest`:
    `script-src '{{ script | digest }}'` with `<script type="module">{{ script | safe }}</script>`, where `script` is
    `text_of("sortable_table.js")`.

    Args:
        template: its name, such as 'report.html'.
        values: what it uses; one that it asks for and does not get is an error.
    Returns:
        the page.
    """
    # A source id or label may hold anything; `autoescape` keeps it text.
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_own_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": signed, "digest": digest}
    environment.globals["text_of"] = _own_text
    return environment.get_template(template).render(**values)


def css(colour: tuple[int, int, int]) -> str:
    """A colour, red, green and blue from 0 to 255, as style sheets name it."""
    return f"rgb({', '.join(str(value) for value in colour)})"


def digest(script: str) -> str:
    """A script's SHA-256 as a content security policy names it, so that this script may run and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def picture_address(pixels: np.ndarray, quality: int = JPEG_QUALITY) -> str:
    """A picture as a `data:` address.

    Args:
        pixels: uint8 (height, width), (height, width, 1) or (height, width, 3).
        quality: of the JPEG, 1 to 95.
    """
    stream = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    # Full colour resolution: halved, it would smear the thin outlines.
    image.save(stream, "JPEG", quality=quality, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: – for none and for NaN, thousands parted by commas, a real minus."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """A change with its sign; none where it rounds to zero."""
    text = number(value, digits)
    if not any(digit in text for digit in "123456789"):
        return text.removeprefix("−")
    return text if text.startswith("−") else f"+{text}"


def _own_text(name: str) -> str:
    """A text file of this package."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
