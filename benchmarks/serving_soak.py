"""Minutes of mixed good and bad requests, for benchmarks/serving.py: every one is answered, and memory stays flat."""

import base64
import io
import json
import random
import statistics
import threading
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from serving_clients import Request, keep_busy, running_server

_CLIENTS = 8
_EACH_S = 10
_GROWTH = 0.05  # between the second and the last quarter; the first fills TensorFlow's buffers for each size
_PNG, _JPEG = "image/png", "image/jpeg"


def soak(export: Path, image: np.ndarray, minutes: float, options: dict[str, float]) -> dict:
    """Runs it, and prints what it found."""
    requests = _requests(export.name, image)
    memory: list[float] = []
    done = threading.Event()
    with running_server(export, export / "server.log", **options) as server:
        process = psutil.Process(server.process.pid)

        def look() -> None:
            while True:
                memory.append(process.memory_info().rss / 1e6)
                if done.wait(_EACH_S):
                    return

        looking = threading.Thread(target=look)
        looking.start()
        counts, _ = keep_busy(server.port, _CLIENTS, 60 * minutes, lambda *key: _chosen(requests, *key), count_all=True)
        done.set()
        looking.join()
        last = server.stop()
    quarter = max(1, len(memory) // 4)
    before, after = statistics.median(memory[quarter : 2 * quarter]), statistics.median(memory[-quarter:])
    flat = after <= before * (1 + _GROWTH)
    answered = sum(count for status, count in counts.by_status.items() if status != "lost")
    nothing_lost = answered == counts.sent and last == f"stopped after {answered} requests"
    print(f"{counts.sent:,} requests, {answered:,} answers: {dict(sorted(counts.by_status.items(), key=str))}; {last}")
    print(f"resident memory each {_EACH_S} s, MB: {' '.join(f'{each:.0f}' for each in memory)}")
    print(f"second quarter {before:.0f} MB, last {after:.0f} MB: {'flat' if flat else 'NOT flat'}")
    for wrong in counts.wrong[:10]:
        print("not expected:", *wrong)
    return {
        "by_status": {str(status): count for status, count in counts.by_status.items()},
        "memory_mb": memory,
        "passed": flat and nothing_lost and not counts.wrong,
    }


def _chosen(requests: list[Request], client: int, count: int) -> Request:
    return random.Random(f"{client} {count}").choice(requests)


def _requests(name: str, image: np.ndarray) -> list[Request]:
    address = f"/v1/models/{name}:predict"
    png, jpeg, tiff = (_encoded(image, form) for form in ("PNG", "JPEG", "TIFF"))
    large = _encoded(np.tile(image, (3, 4, 1)), "PNG")
    nested = json.dumps({"instances": [image[:64, :96].tolist()]}).encode()
    good = [
        *(_compact(address, content) for content in (png, jpeg, large)),
        Request(address, "application/json", nested),
        Request("/segment", _PNG, png),
        Request("/segment?spacing_mm=0.1", _JPEG, jpeg),
        Request("/segment", "image/tiff", tiff),
        Request("/segment", _PNG, large),
    ]
    bad = (400, 413, 415)
    malformed = [
        _compact(address, png[: len(png) // 2], bad),
        _compact(address, b"no image", bad),
        Request(address, "application/json", b'{"instances": [', bad),
        Request(address, "application/json", b"[" * 5000, bad),
        Request(address, "text/plain", nested, bad),
        Request("/segment", _PNG, png[:200], bad),
        Request("/segment", _JPEG, jpeg[: len(jpeg) // 2], bad),
        Request("/segment", _PNG, b"", bad),
        Request("/segment?spacing_mm=-1", _PNG, png, bad),
        Request("/segment", "application/dicom", b"\0" * 128 + b"DICM" + b"\x02\0" * 40, bad),
        Request("/segment", _PNG, _bomb(), bad),
    ]
    return good * 3 + malformed


def _compact(address: str, content: bytes, expected: tuple[int, ...] = (200,)) -> Request:
    row = {"image_bytes": {"b64": base64.b64encode(content).decode()}, "spacing_mm": [0, 0]}
    return Request(
        address, "application/json", json.dumps({"signature_name": "compact", "instances": [row]}).encode(), expected
    )


def _encoded(image: np.ndarray, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0]).save(stream, form)
    return stream.getvalue()


def _bomb() -> bytes:
    """A PNG of some kilobytes with 36 megapixels."""
    return _encoded(np.zeros((6000, 6000, 1), np.uint8), "PNG")
