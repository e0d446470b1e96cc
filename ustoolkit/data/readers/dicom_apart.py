"""Decodes JPEG Lossless and JPEG-LS in a process of its own: GDCM, which knows them, ends its process on damaged files.

`python -m ustoolkit.data.readers.dicom_apart FILE FRAME FRAMES BYTES` writes the frame as a NumPy file to its standard
output.
"""

import contextlib
import importlib.util
import io
import subprocess
import sys
from pathlib import Path

import numpy as np

_LONGEST_SECONDS = 120
_MEMORY_AT_LEAST = 256 * 2**20  # bytes, beyond what the process holds before it decodes
_MEMORY_PER_BYTE = 16  # of the decoded frame: GDCM, its Python and pydicom each hold copies, some 9 together
_JPEG_START = b"\xff\xd8"
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # 0xF7 is JPEG-LS's
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_END, _START_OF_SCAN = 0xD9, 0xDA


def is_installed() -> bool:
    """Whether GDCM can be imported."""
    return importlib.util.find_spec("gdcm") is not None


def coded_size(code: bytes) -> tuple[int, int]:
    """Height and width of a frame as its code stream has them: decoders go by these, whatever DICOM says.

    Args:
        code: of JPEG, JPEG Lossless or JPEG-LS.
    Raises:
        ValueError: it has no frame header before its first scan.
    """
    here = len(_JPEG_START)
    while code.startswith(_JPEG_START):
        here = code.find(b"\xff", here)  # decoders skip what lies between segments, too
        while 0 <= here < len(code) and code[here] == 0xFF:
            here += 1
        if not 0 <= here < len(code) - 2 or code[here] in (_END, _START_OF_SCAN):
            break
        marker, length = code[here], int.from_bytes(code[here + 1 : here + 3])
        if marker in _START_OF_FRAME and here + 8 <= len(code):
            return int.from_bytes(code[here + 4 : here + 6]), int.from_bytes(code[here + 6 : here + 8])
        here += 1 if marker in (0, *_WITHOUT_LENGTH) else 1 + max(2, length)
    raise ValueError("the code stream does not say how large it is")


def decode_apart(path: str, frame: int, frames: int, frame_bytes: int) -> np.ndarray:
    """Decodes one frame.

    Args:
        path: a DICOM file, whose frame has the size that the file says (`coded_size`).
        frame: counted from 0.
        frames: how many there are.
        frame_bytes: size of a decoded frame; where the system knows limits, memory is limited by it.
    Returns:
        as `pydicom.pixels.pixel_array`.
    Raises:
        ValueError: the decoder failed, ended its process, or took longer than two minutes.
    """
    numbers = (str(number) for number in (frame, frames, frame_bytes))
    command = [sys.executable, "-m", "ustoolkit.data.readers.dicom_apart", path, *numbers]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_LONGEST_SECONDS)
        return np.load(io.BytesIO(done.stdout), allow_pickle=False)
    except (subprocess.SubprocessError, OSError, ValueError, EOFError):
        raise ValueError("the decoder gave up") from None


def main() -> None:
    """Decodes the frame that the command line names."""
    import gdcm  # noqa: F401 - here, so that what it needs itself does not count as decoding
    from pydicom.pixels import pixel_array

    path = sys.argv[1]
    frame, frames, frame_bytes = (int(number) for number in sys.argv[2:])
    _limit_memory(_MEMORY_AT_LEAST + _MEMORY_PER_BYTE * frame_bytes)
    # A table of offsets that nobody else looks at could lead to another code stream than the one that was measured.
    pixels = pixel_array(path, index=frame, decoding_plugin="gdcm", number_of_frames=frames, extended_offsets=None)
    stream = io.BytesIO()
    np.save(stream, pixels)
    sys.stdout.buffer.write(stream.getvalue())


def _limit_memory(more: int) -> None:
    """Lets this process take so many bytes more than it has, where the system can say and limit that."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
