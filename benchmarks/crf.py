"""The dense CRF over processes beside plain pydensecrf, and DeepLab's start beside that of tf-models-official's parts.

python benchmarks/crf.py
python benchmarks/crf.py --quick        # few images, one round: to try it

Both CRFs refine the same phantoms in the same run, and stop unless they agree to the bit. Starts are timed in fresh
processes, which take turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_softmax
from turns import cores, machine, number, print_machine, target_line

from ustoolkit.inference.crf import refined
from ustoolkit.recipe.settings import CrfSettings

SIZES = ((256, 256), (400, 500), (600, 800))
_DRAWN = 6  # of each size; the others are the same with other noise, and cost as much
_SETTINGS = CrfSettings(smoothness_deviation=3)

_OURS = """
import time
start = time.perf_counter()
import ustoolkit
from ustoolkit.models import build_model, count_trainable
from ustoolkit.recipe import load_recipe
imported = time.perf_counter()
model = build_model(load_recipe("deeplab_v3_plus_{backbone}"), 2)
built = time.perf_counter()
"""

# As in the library's own factory, joined as one functional model that can be saved.
_PARTS = """
import time
start = time.perf_counter()
import tf_keras as keras
import official.vision.modeling
from official.vision.modeling.backbones.mobilenet import MobileNet
from official.vision.modeling.backbones.resnet_deeplab import DilatedResNet
from official.vision.modeling.decoders.aspp import ASPP
from official.vision.modeling.heads.segmentation_heads import SegmentationHead
imported = time.perf_counter()
shape = keras.layers.InputSpec(shape=[None, 256, 256, 3])
if "{backbone}" == "resnet101":
    backbone = DilatedResNet(101, 16, shape)
else:
    backbone = MobileNet("MobileNetV2", 1.0, shape, output_stride=16)
image = keras.layers.Input((256, 256, 3))
features = backbone(image)
pyramid = ASPP(level=4, dilation_rates=[6, 12, 18], num_filters=256, output_tensor=True)(features["4"])
head = SegmentationHead(
    1, level="4", num_convs=2, num_filters=256, feature_fusion="deeplabv3plus", low_level=2, low_level_num_filters=48
)
logits = keras.layers.UpSampling2D(4, interpolation="bilinear")(head((features["2"], pyramid)))
model = keras.Model(image, logits)
built = time.perf_counter()
"""

_SAID = """
import json
import math
weights = sum(math.prod(weight.shape) for weight in model.trainable_weights)
print(json.dumps(dict(imported=imported - start, whole=built - start, weights=weights)))
"""

_APART = """
import sys
import ustoolkit.models.network_builders
sys.exit(any(name.split(".")[0] in ("official", "tensorflow_models") for name in sys.modules))
"""


def make_cases(count: int, size: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Phantoms of a size, with the lesion's probability as an unsure network would give it."""
    from ustoolkit.data.phantom import phantom_samples  # here, since each process imports this file again

    rng = np.random.default_rng(0)
    drawn = list(phantom_samples(_DRAWN, size=size))
    cases = []
    for number_of_case in range(count):
        sample = drawn[number_of_case % _DRAWN]
        unsure = np.where(sample.mask > 0, 0.7, 0.3) + rng.normal(0, 0.2, sample.mask.shape)
        cases.append((np.clip(unsure, 0, 1).astype(np.float32)[..., None], sample.image))
    return cases


def plain(probability: np.ndarray, image: np.ndarray) -> np.ndarray:
    """pydensecrf's own calls, as its README has them."""
    height, width = probability.shape[:2]
    field = DenseCRF2D(width, height, 2)
    both = np.stack([1 - probability[..., 0], probability[..., 0]])
    field.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(both)))
    # sums of floats depend on their order, which is ours
    field.addPairwiseBilateral(
        sxy=_SETTINGS.position_deviation,
        srgb=_SETTINGS.intensity_deviation,
        rgbim=np.ascontiguousarray(np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image),
        compat=_SETTINGS.appearance_weight,
    )
    field.addPairwiseGaussian(sxy=_SETTINGS.smoothness_deviation, compat=_SETTINGS.smoothness_weight)
    return np.array(field.inference(_SETTINGS.iterations))[1].reshape(height, width, 1)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall clock of one call, and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def crf_lines(count: int, rounds: int, workers: int) -> tuple[list[str], list[float]]:
    """A line of a table for each size, and how many times as fast as one thread ours is for all.

    Args:
        count: images of each size.
        rounds: turns that each takes.
        workers: processes.
    Raises:
        SystemExit: a probability differs.
    """
    lines = [
        "| images | one thread of pydensecrf | ustoolkit, start of the processes included "
        "| so many times as fast, median (range of rounds) | a process |",
        "|---|---|---|---|---|",
    ]
    sets = {f"{height} × {width}": make_cases(count, (height, width)) for height, width in SIZES}
    mixed = [case for together in zip(*sets.values(), strict=True) for case in together]
    ratios: list[float] = []
    for name, cases in {**sets, "all of these": mixed}.items():
        ratios, theirs, ours = [], [], []
        for _ in range(rounds):
            alone, expected = seconds(lambda cases=cases: [plain(*case) for case in cases])
            spread, found = seconds(
                lambda cases=cases: list(refined(*zip(*cases, strict=True), _SETTINGS, workers=workers))
            )
            if any(not np.array_equal(one, other) for one, other in zip(found, expected, strict=True)):
                raise SystemExit(f"{name}: the probabilities of {workers} processes are not those of pydensecrf.")
            theirs.append(len(cases) / alone)
            ours.append(len(cases) / spread)
            ratios.append(alone / spread)
        middle = statistics.median(ratios)
        lines.append(
            f"| {len(cases)} of {name} | {number(statistics.median(theirs))} images/s "
            f"| {number(statistics.median(ours))} images/s "
            f"| {number(middle, 2)} ({number(min(ratios), 2)} to {number(max(ratios), 2)}) "
            f"| {number(middle / workers, 2)} |"
        )
    return lines, ratios


def start_lines(rounds: int) -> tuple[list[str], dict[str, float]]:
    """A line of a table for each backbone, and ours / the parts'."""
    lines = [
        "| import and build DeepLab v3+ | ustoolkit (import alone) | tf-models-official's parts (import alone) "
        "| ours / theirs, median (range of rounds) | trainable weights |",
        "|---|---|---|---|---|",
    ]
    medians = {}
    for backbone in ("resnet101", "mobilenet"):
        ours, theirs = [], []
        for turn in range(rounds):
            pair = [(ours, _OURS), (theirs, _PARTS)]
            for times, script in pair if turn % 2 == 0 else pair[::-1]:
                times.append(_child(script.replace("{backbone}", backbone) + _SAID))
        ratios = [one["whole"] / other["whole"] for one, other in zip(ours, theirs, strict=True)]
        medians[backbone] = statistics.median(ratios)
        lines.append(
            f"| {backbone} | {_durations(ours)} | {_durations(theirs)} "
            f"| {number(medians[backbone], 2)} ({number(min(ratios), 2)} to {number(max(ratios), 2)}) "
            f"| {ours[0]['weights']:,}; {theirs[0]['weights']:,} |"
        )
    return lines, medians


def _child(script: str) -> dict[str, float]:
    environment = os.environ | {
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


def _durations(times: list[dict[str, float]]) -> str:
    whole, imported = (statistics.median(each[name] for each in times) for name in ("whole", "imported"))
    return f"{number(whole)} s ({number(imported)} s)"


def main() -> None:
    """Prints the machine and the tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few images, one round: to try it")
    parser.add_argument("--images", type=int, help="of each size (default 60)")
    parser.add_argument("--rounds", type=int, help="turns that each takes (default 3)")
    parser.add_argument("--workers", type=int, default=cores(), help="processes (default: one a core)")
    parser.add_argument("--no-start", action="store_true", help="the CRF alone")
    arguments = parser.parse_args()
    images = arguments.images or (12 if arguments.quick else 60)
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    print_machine(machine())
    lines, ratios = crf_lines(images, rounds, arguments.workers)
    print("\n".join(lines), end="\n\n", flush=True)
    print(f"All probabilities of {arguments.workers} processes equal those of pydensecrf to the bit.\n")
    targets = [target_line("CRF, beside one thread", 0.8 * arguments.workers, statistics.median(ratios))]
    if not arguments.no_start:
        lines, medians = start_lines(rounds)
        print("\n".join(lines), end="\n\n", flush=True)
        for backbone, found in medians.items():
            verdict = "reached" if found <= 1.5 else "NOT reached"
            targets.append(f"- start with {backbone}: at most 1.5 ×, found {number(found, 2)} ×: {verdict}")
        light = subprocess.run([sys.executable, "-c", _APART], check=False).returncode == 0
        targets.append(f"- importing ustoolkit.models leaves tf-models-official alone: {'yes' if light else 'NO'}")
    print("\n".join(targets))


if __name__ == "__main__":
    main()
