"""Decodes JPEG Lossless and JPEG-LS in a process of its own: GDCM, which knows them, ends its process on damaged files.

`python -m ustoolkit.data.readers.dicom_apart FILE FRAME` writes the frame as a NumPy file to its standard output.
"""

import importlib.util
import io
import subprocess
import sys

import numpy as np

_LONGEST_SECONDS = 120


def is_installed() -> bool:
    """Whether GDCM can be imported."""
    return importlib.util.find_spec("gdcm") is not None


def decode_apart(path: str, frame: int) -> np.ndarray:
    """Decodes one frame.

    Args:
        path: a DICOM file.
        frame: counted from 0.
    Returns:
        as `pydicom.pixels.pixel_array`.
    Raises:
        ValueError: the decoder failed, ended its process, or took longer than two minutes.
    """
    command = [sys.executable, "-m", "ustoolkit.data.readers.dicom_apart", path, str(frame)]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_LONGEST_SECONDS)
        return np.load(io.BytesIO(done.stdout), allow_pickle=False)
    except (subprocess.SubprocessError, OSError, ValueError, EOFError):
        raise ValueError("the decoder gave up") from None


def main() -> None:
    """Decodes the frame that the command line names."""
    from pydicom.pixels import pixel_array

    path, frame = sys.argv[1:]
    pixels = pixel_array(path, index=int(frame), decoding_plugin="gdcm")
    stream = io.BytesIO()
    np.save(stream, pixels)
    sys.stdout.buffer.write(stream.getvalue())


if __name__ == "__main__":
    main()
