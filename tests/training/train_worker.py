"""Trains a run as one of several processes, or alone; run by the tests.

Arguments: records, run folder, devices of the CPU, settings. A run that is there already goes on.
"""

import json
import os
import sys
from pathlib import Path

import tensorflow as tf

from ustoolkit.data.records import Records
from ustoolkit.recipe import load_recipe
from ustoolkit.training.placement import Placement
from ustoolkit.training.start import resume_run, start_run
from ustoolkit.training.strategy import serve, serves_only, wanted_cluster
from ustoolkit.training.trainer import train
from ustoolkit.training.worker_run import run_of_worker


def main(folder: str, out: Path, devices: int, settings: list[str]) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    if devices > 1:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    recipe = load_recipe("demo", settings)
    name = recipe.training.strategy
    cluster = wanted_cluster(name, os.environ)
    if serves_only(cluster):
        serve(cluster)
    place = Placement.of(name, cluster)
    records = Records(folder)
    begin = (lambda: resume_run(records, out)) if out.exists() else (lambda: start_run(recipe, records, out))
    said: list[str] = []
    with run_of_worker(place, out, begin) as run:
        state = train(run, records, place.strategy, say=said.append, cluster=cluster)
        found = {"replicas": place.replicas, "said": said, "folder": str(run.folder), "epochs": state.epoch}
        history = [[row["loss"], row["validation_loss"], row["validation_dice"]] for row in state.history]
    print(json.dumps({**found, "history": history, "left": Path(found["folder"]).exists()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
