"""Answers as JSON."""

from typing import Any

import orjson
from starlette.responses import Response

from ustoolkit.serving.refusal import Refusal

_MEDIA = "application/json"


def written(content: Any) -> Response:
    """An answer, 200; NaN becomes null, since JSON has none."""
    return as_json(orjson.dumps(content))


def as_json(body: bytes) -> Response:
    """An answer that is written already, 200."""
    return Response(body, media_type=_MEDIA)


def written_refusal(refusal: Refusal) -> Response:
    """A refusal as TensorFlow Serving writes errors, {"error": "…"}."""
    return Response(orjson.dumps({"error": str(refusal)}), refusal.status, refusal.headers, _MEDIA)
