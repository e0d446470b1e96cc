"""What a server is told when it starts."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from ustoolkit.errors import UstoolkitError

LONGEST_NAME = 100


@dataclass(frozen=True)
class ServerSettings:
    """How an export is served.

    Attributes:
        export: folder of one version, or of versions, of which the newest is served.
        host: address to listen at; of the loopback, nobody but this machine can connect.
        port: 0 for any that is free.
        name: of the model in addresses; '' for the export's own.
        public_host: name under which a reverse proxy on this machine gives the server out, without port; '' for none.
        largest_upload_mb: of a request's body, in 10⁶ bytes.
        largest_megapixels: of all images of one request together, in 10⁶ pixels.
        queue: how many requests may wait; others are told to come back.
        queue_megapixels: of all images that wait or are computed, in 10⁶ pixels; a single request always gets in.
        batch: how many images one call of the model takes at most.
        workers: how many threads call the model.
        longest_wait_ms: how long an image waits for others to share a call with, while nothing else is to do.
        shutdown_seconds: how long a server that ends waits for what it has begun.
    Raises:
        UstoolkitError: a value is out of range.
    """

    export: Path
    host: str = "127.0.0.1"
    port: int = 8501
    name: str = ""
    public_host: str = ""
    largest_upload_mb: float = 20
    largest_megapixels: float = 16
    queue: int = 64
    queue_megapixels: float = 128
    batch: int = 8
    workers: int = 2
    longest_wait_ms: float = 2
    shutdown_seconds: float = 30

    def __post_init__(self) -> None:
        """Checks the values."""
        for name, lowest, highest in _RANGES:
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise UstoolkitError(
                    f"--{name.replace('_', '-')}: expected {lowest:g} to {highest:g}, found {value:g}. Choose another."
                )
        if len(self.name) > LONGEST_NAME or not all(sign.isalnum() or sign in "-_." for sign in self.name):
            raise UstoolkitError(
                f"--name: expected up to {LONGEST_NAME} letters, digits, '-', '_' and '.', found '{self.name}'. It "
                "becomes part of an address; choose another."
            )
        if not all(sign.isascii() and (sign.isalnum() or sign in "-.") for sign in self.public_host):
            raise UstoolkitError(
                f"--public-host: expected a name such as us.hospital.example, found '{self.public_host}'. Leave out "
                "http:// and the port."
            )

    @property
    def largest_upload(self) -> int:
        """In bytes."""
        return int(self.largest_upload_mb * 1e6)

    @property
    def largest_pixels(self) -> int:
        """Of all images of one request together."""
        return int(self.largest_megapixels * 1e6)

    @property
    def queue_pixels(self) -> int:
        """Of all images that wait or are computed."""
        return int(self.queue_megapixels * 1e6)

    @property
    def local(self) -> bool:
        """Whether nobody but this machine can connect."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


_RANGES = (
    ("port", 0, 65535),
    ("largest_upload_mb", 0.001, 1000),
    ("largest_megapixels", 0.001, 64),
    ("queue", 1, 10_000),
    ("queue_megapixels", 0.001, 100_000),
    ("batch", 1, 256),
    ("workers", 1, 64),
    ("longest_wait_ms", 0, 1000),
    ("shutdown_seconds", 0, 3600),
)
