"""The body of a request: of the right kind, and never longer than allowed."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from ustoolkit.serving.refusal import Refusal

_LONGEST_SECONDS = 60
JSON = ("application/json",)
FILES = ("application/octet-stream", "application/dicom", "image/")


def check_media(request: Request, accepted: tuple[str, ...], remedy: str) -> None:
    """Refuses a body that says to be of another kind, or to be compressed; one that says nothing is taken.

    Args:
        request: whose headers are looked at.
        accepted: media types; one that ends with '/' stands for all that begin so.
        remedy: what to send, a whole sentence.
    Raises:
        Refusal: 415.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    taken = not media or any(media.startswith(each) if each.endswith("/") else media == each for each in accepted)
    if not taken or request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(
            415, f"expected a body of the type {' or '.join(accepted)}, not compressed, found another. {remedy}"
        )


async def read_body(request: Request, largest: int) -> bytearray:
    """Reads a body.

    Args:
        request: whose body was not read before.
        largest: bytes.
    Raises:
        Refusal: it is longer, takes longer than a minute, or the client is gone; 413, 408 and 400.
    """
    told = request.headers.get("content-length", "0")
    if told.isascii() and told.isdigit() and int(told[:20]) > largest:
        raise _too_long(largest)
    body = bytearray()
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            async for part in request.stream():
                if len(body) + len(part) > largest:
                    raise _too_long(largest)
                body += part
    except TimeoutError:
        raise Refusal(
            408,
            f"expected the whole body within {_LONGEST_SECONDS} seconds, found part of it. Send it again.",
            {"Connection": "close"},
        ) from None
    except ClientDisconnect:
        raise Refusal(400, "expected the whole body, found the connection closed. Send it again.") from None
    return body


def _too_long(largest: int) -> Refusal:
    return Refusal(413, f"expected a body of at most {largest:,} bytes, found more. Send a smaller image, or fewer.")
