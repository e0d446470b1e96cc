"""How many phantoms one core draws in a second, plain and in a device frame.

python benchmarks/phantom.py --count 60
"""

import argparse
import os
import time

import cv2

from ustoolkit.data.phantom import phantom_samples


def images_per_second(count: int, size: int, frame: bool) -> float:
    """Rate over `count` images, wall clock, after one image to warm up."""
    next(phantom_samples(1, size=(size, size), frame=frame))
    start = time.perf_counter()
    for _ in phantom_samples(count, seed=1, size=(size, size), frame=frame):
        pass
    return count / (time.perf_counter() - start)


def main() -> None:
    """Prints a line a variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="images a measurement (default 60)")
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels (default 256)")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    for name, frame in (("plain", False), ("framed", True)):
        rate = images_per_second(arguments.count, arguments.size, frame)
        print(f"{name:7s} {arguments.size} × {arguments.size}: {rate:5.1f} images/s on one core")


if __name__ == "__main__":
    main()
