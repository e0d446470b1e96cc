"""What a client did wrong, or cannot have now, with the status that HTTP has for it."""

from ustoolkit.errors import UstoolkitError

_A_SECOND = {"Retry-After": "1"}


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


def overloaded(waiting: int, pixels: int = 0) -> Refusal:
    """The refusal of a server that has as much to do as it takes.

    Args:
        waiting: requests that wait.
        pixels: of images that wait or are computed, where these are what is too much.
    """
    found = f"{pixels:,} pixels" if pixels else f"{waiting} requests"
    return Refusal(503, f"{found} are waiting already. Send yours again in a second.", _A_SECOND)


def greedy(begun: int) -> Refusal:
    """The refusal of a client that has taken its share, so that others are answered too."""
    return Refusal(
        429, f"{begun} requests of this client are waiting already. Send others once they are answered.", _A_SECOND
    )


def stopping() -> Refusal:
    """The refusal of a server that is about to end."""
    return Refusal(503, "The server is stopping. Send the request again later.", {"Retry-After": "10"})
