"""What a client did wrong, or cannot have now, with the status that HTTP has for it."""

from ustoolkit.errors import UstoolkitError


class Refusal(UstoolkitError):
    """A request that is not answered as asked.

    Args:
        status: of HTTP, 400 or above.
        message: what was expected, what was found and the remedy; without anything of the request that may be secret.
        headers: that go with the status, such as 'Retry-After'.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def overloaded(waiting: int) -> Refusal:
    """The refusal of a server that has as much to do as it takes."""
    return Refusal(503, f"{waiting} requests are waiting already. Send yours again in a second.", {"Retry-After": "1"})


def stopping() -> Refusal:
    """The refusal of a server that is about to end."""
    return Refusal(503, "The server is stopping. Send the request again later.", {"Retry-After": "10"})
