"""One of several workers: says what it finds of its placement, as a line of JSON. Run by the tests."""

import json
import os
import sys

import numpy as np
import tensorflow as tf

import ustoolkit  # noqa: F401  (sets the line of Keras)
from ustoolkit.errors import RunError
from ustoolkit.training.placement import Placement
from ustoolkit.training.strategy import wanted_cluster


def main() -> None:
    place = Placement.of("multi-worker", wanted_cluster("multi-worker", os.environ))
    number = place.worker
    found = {"workers": place.workers, "worker": number, "writes": place.writes, "replicas": place.replicas}
    rows = np.arange(6, dtype=np.float32).reshape(3, 2) + 10 * number
    found["gathered"] = place.gather(rows[: 3 - number]).tolist()
    found["with_none"] = place.gather(rows[: 3 * number]).tolist()
    found["none_at_all"] = place.gather(rows[:0]).shape
    found["agreed"] = place.agreed(86_400.0001 + number)
    # The second worker has fewer batches, and the last of each is not full.
    numbers = np.arange(7 if number == 0 else 3, dtype=np.float32) + 100 * number
    batches = place.distribute(tf.data.Dataset.from_tensor_slices((numbers[:, np.newaxis], numbers)).batch(2), 4)

    @tf.function
    def double(batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return place.strategy.run(lambda images, targets: 2 * images, (batch,)[0])

    outputs = [each.numpy() for batch in batches for each in place.strategy.experimental_local_results(double(batch))]
    found["outputs"] = place.gather(np.concatenate(outputs)).ravel().tolist()
    found["made"] = place.first_alone(lambda: "made")

    def fail() -> None:
        raise ValueError("no room")

    try:
        place.first_alone(fail)
    except (ValueError, RunError) as problem:
        found["failed"] = f"{type(problem).__name__}: {problem}"
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    sys.exit(main())
