"""The walks of CONTRIBUTING's "A newcomer adds…": what is added to which file, and what is said where a step lacks."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ustoolkit.data.image_files import encode_png

Step = Callable[[Path], object]

READER = '''\
"""Images with a list of boxes: boxes.txt, a line `name left top right bottom` each."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ustoolkit.data.image_files import find_images
from ustoolkit.data.readers.annotation_files import read_limited
from ustoolkit.data.readers.entry import Entry, ShapesLoader
from ustoolkit.data.shapes import Shape
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

FILE = "boxes.txt"


def matches(root: Path) -> bool:
    """Whether the folder holds the list."""
    return (root / FILE).is_file()


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry an image, with its boxes as masks.

    Raises:
        DataError: a line is not a name and four numbers.
    """
    drawn = defaultdict(list)
    for number, line in enumerate(read_limited(root / FILE).decode(errors="replace").splitlines(), start=1):
        place = f"{FILE}, line {number}"
        name, *words = line.split() or [""]
        try:
            left, top, right, bottom = map(float, words)
        except ValueError:
            raise DataError(f"{place}: expected a name and four numbers, found '{line}'. Correct it.") from None
        drawn[name].append(Shape("", place, "rectangle", ((left, top), (right, bottom))))
    for image in find_images(root):
        yield Entry(image.stem, ShapesLoader(image.stem, image, tuple(drawn[image.name]), settings))
'''
NETWORK_FILE = '''\
"""A plain network: convolutions at the image's own resolution."""

import tf_keras as keras

from ustoolkit.layers.preprocessing import PixelNormalization
from ustoolkit.recipe.networks import PlainNetSettings
from ustoolkit.recipe.settings import DataSettings


def build_plain_net(model: PlainNetSettings, data: DataSettings, outputs: int) -> keras.Model:
    """Builds a network that takes raw pixel values and ends in logits.

    Args:
        model: its settings.
        data: the input's size and channels.
        outputs: logits a pixel.
    Returns:
        a model from (batch, height, width, channels) to float32 (batch, height, width, outputs).
    """
    inputs = keras.layers.Input((*data.image_size, data.channels), name="image")
    current = PixelNormalization(model.pixel_normalization, name="pixels")(inputs)
    for number in range(model.depth):
        current = keras.layers.Conv2D(model.width, 3, padding="same", name=f"conv{number}")(current)
        current = keras.layers.BatchNormalization(name=f"norm{number}")(current)
        current = keras.layers.ReLU(name=f"relu{number}")(current)
    logits = keras.layers.Conv2D(outputs, 1, name="score")(current)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
    return keras.Model(inputs, logits, name=model.name)
'''
NETWORK_SETTINGS = '''\
class PlainNetSettings(Settings):
    """Convolutions at the image's own resolution."""

    name: Literal["plain_net"] = "plain_net"
    width: Annotated[Count, Field(description="filters of each convolution")] = 16
    depth: Annotated[Count, Field(description="how many convolutions")] = 4
    pixel_normalization: PixelNormalizationMode = "unit"

    @property
    def stride(self) -> int:
        """1: any size is taken."""
        return 1


NetworkSettings = (
    PlainNetSettings
    | UnetSettings'''
RECIPE = """\
name = "plain_net"
description = "A plain network"

[model]
name = "plain_net"
width = 8
"""
LOSS_FUNCTION = '''\
def soft_jaccard(logits: tf.Tensor, mask: tf.Tensor, settings: LossSettings) -> tf.Tensor:
    """One minus the soft Jaccard index of the foreground classes; arguments and result as those of `soft_dice`."""
    probability, truth = _foreground(logits, mask)
    overlap = tf.reduce_sum(probability * truth, [1, 2])
    union = tf.reduce_sum(probability, [1, 2]) + tf.reduce_sum(truth, [1, 2]) - overlap
    return tf.reduce_mean(1.0 - (overlap + 1.0) / (union + 1.0), -1)


LOSSES: dict'''
METRIC_FUNCTION = '''\
def false_discovery(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Share of the predicted lesion that is none: FP / (TP + FP); arguments as those of `dice`.

    Returns:
        float in [0, 1]; NaN where nothing was predicted.
    """
    truth, prediction = mask_pair(truth, prediction)
    return _ratio(np.count_nonzero(prediction & ~truth), np.count_nonzero(prediction))


def mask_pair'''


@dataclass(frozen=True)
class Walk:
    """What a newcomer adds.

    Attributes:
        name: of the walk.
        new: what is added, as tests name it.
        steps: what is done, by the words of CONTRIBUTING.
        told: what the house says without a step; not there where the step is left to the newcomer.
        tests: of the house, that look for what is new.
        picked: those of them that are run, as pytest's -k.
        use: a program that uses what is new, and what it prints.
    """

    name: str
    new: str
    steps: dict[str, Step]
    told: dict[str, str]
    tests: tuple[str, ...]
    picked: str
    use: tuple[str, str]


def written(path: str, text: str) -> Step:
    """A new file."""
    return lambda house: (house / path).write_text(text, encoding="utf-8")


def changed(path: str, *changes: tuple[str, str]) -> Step:
    """A file with each text, which it has once, exchanged for another."""

    def change(house: Path) -> None:
        content = (house / path).read_text(encoding="utf-8")
        for old, new in changes:
            assert content.count(old) == 1, f"{path}: {content.count(old)} times {old!r}"
            content = content.replace(old, new)
        (house / path).write_text(content, encoding="utf-8")

    return change


def with_boxes(house: Path) -> None:
    """Two images, and boxes on one of them."""
    folder = house / "tests" / "files" / "boxlist"
    folder.mkdir()
    for number in (1, 2):
        image = (np.arange(80) * number).astype(np.uint8).reshape(8, 10)
        (folder / f"scan_{number}.png").write_bytes(encode_png(image))
    (folder / "boxes.txt").write_text("scan_1.png 2 1 5 3\n", encoding="utf-8")


def make_reference(house: Path) -> None:
    """What `make reference` runs."""
    command = [sys.executable, "-m", "ustoolkit.recipe.reference", "docs/reference/recipes.md"]
    subprocess.run(command, cwd=house, env={"PYTHONPATH": str(house)}, check=False, capture_output=True)


_REFERENCE = "tests/recipe/test_reference.py"
FORMAT = Walk(
    "format",
    "boxlist",
    {
        "one file in `data/readers/`": written("ustoolkit/data/readers/boxlist.py", READER),
        "one line in `READERS`": changed(
            "ustoolkit/data/readers/__init__.py",
            ("from ustoolkit.data.readers import coco,", "from ustoolkit.data.readers import boxlist, coco,"),
            ('    "phantom": phantom,\n', '    "phantom": phantom,\n    "boxlist": boxlist,\n'),
        ),
        "its name in `DataSetFormat`": changed(
            "ustoolkit/choices.py", ('Literal["phantom",', 'Literal["phantom", "boxlist",')
        ),
        "three tiny files under `tests/files/`": with_boxes,
        "its description in `tfrecords/`": written("tfrecords/boxlist.toml", 'path = "../boxes"\nformat = "boxlist"\n'),
        "`make reference`": make_reference,
    },
    {
        "one file in `data/readers/`": "cannot import name 'boxlist'",
        "one line in `READERS`": "`READERS` of data/readers/__init__.py and `DataSetFormat` of choices.py",
        "its name in `DataSetFormat`": "`READERS` of data/readers/__init__.py and `DataSetFormat` of choices.py",
        "three tiny files under `tests/files/`": "tests/files/boxlist: expected tiny files of this form, found none",
        "its description in `tfrecords/`": "no description in tfrecords/ of boxlist",
        "`make reference`": "Run `make reference`",
    },
    ("tests/data/test_readers.py", "tests/data/test_fuzz.py", _REFERENCE),
    "boxlist or every_reader or up_to_date",
    (
        "from pathlib import Path\n"
        "from ustoolkit.arguments import build_parser\n"
        "from ustoolkit.data.readers import detect, open_data_set\n"
        "from ustoolkit.recipe import DataSetSettings\n"
        "root = Path('tests/files/boxlist')\n"
        "asked = build_parser().parse_args(['inspect', str(root), '--format', 'boxlist']).format\n"
        "masks = [entry.load().mask for entry in open_data_set(root, DataSetSettings(format=asked))]\n"
        "print(detect(root), int(masks[0].sum()), masks[1])",
        "boxlist 12 None",
    ),
)
NETWORK = Walk(
    "network",
    "plain_net",
    {
        "one file in `models/`": written("ustoolkit/models/plain_net.py", NETWORK_FILE),
        "its settings in `recipe/networks.py`": changed(
            "ustoolkit/recipe/networks.py", ("NetworkSettings = (\n    UnetSettings", NETWORK_SETTINGS)
        ),
        "one line in `MODELS`": changed(
            "ustoolkit/models/network_builders.py",
            (
                "from ustoolkit.models.unet",
                "from ustoolkit.models.plain_net import build_plain_net\nfrom ustoolkit.models.unet",
            ),
            ('    "unet": build_unet,\n', '    "plain_net": build_plain_net,\n    "unet": build_unet,\n'),
        ),
        "a recipe": written("ustoolkit/recipes/plain_net.toml", RECIPE),
        "its paper in `models/zoo.py`": changed(
            "ustoolkit/models/zoo.py", ("_PAPERS = {\n", '_PAPERS = {\n    "plain_net": "Newcomer et al.",\n')
        ),
        "its smallest settings in `tests/models/networks.py`": changed(
            "tests/models/networks.py", ('    "unet": _UNET,\n', '    "unet": _UNET,\n    "plain_net": {"width": 4},\n')
        ),
        "`make reference`": make_reference,
    },
    {
        "one file in `models/`": "No module named 'ustoolkit.models.plain_net'",
        "its settings in `recipe/networks.py`": "PlainNetSettings",
        "one line in `MODELS`": "`MODELS` of models/network_builders.py and `NetworkSettings` of recipe/networks.py",
        "its paper in `models/zoo.py`": "expected the paper of plain_net, found none",
        "its smallest settings in `tests/models/networks.py`": "expected settings of plain_net, found none",
        "`make reference`": "Run `make reference`",
    },
    ("tests/models/test_contract.py", "tests/models/test_zoo.py", "tests/test_house.py", _REFERENCE),
    "plain_net or registries or has_a_paper or up_to_date",
    (
        "from ustoolkit.models import build_model, count_trainable\n"
        "from ustoolkit.models.zoo import zoo\n"
        "from ustoolkit.recipe import load_recipe\n"
        "weights = count_trainable(build_model(load_recipe('plain_net', ['model.depth=1']), 2))\n"
        "print(weights, *(entry.paper for entry in zoo(['plain_net'])))",
        f"{3 * 9 * 8 + 8 + 2 * 8 + 8 + 1} Newcomer et al.",
    ),
)
LOSS = Walk(
    "loss",
    "jaccard",
    {
        "one function in `training/losses.py`": changed(
            "ustoolkit/training/losses.py", ("LOSSES: dict", LOSS_FUNCTION)
        ),
        "one line in `LOSSES`": changed(
            "ustoolkit/training/losses.py",
            ('    "dice": soft_dice,\n', '    "dice": soft_dice,\n    "jaccard": soft_jaccard,\n'),
        ),
        "its name in `LossName`": changed(
            "ustoolkit/recipe/training.py", ('LossName = Literal["dice", ', 'LossName = Literal["dice", "jaccard", ')
        ),
        "`make reference`": make_reference,
    },
    {
        "one function in `training/losses.py`": "name 'soft_jaccard' is not defined",
        "one line in `LOSSES`": "`LOSSES` of training/losses.py and `LossName` of recipe/training.py",
        "its name in `LossName`": "`LOSSES` of training/losses.py and `LossName` of recipe/training.py",
        "`make reference`": "Run `make reference`",
    },
    ("tests/training/test_losses.py", "tests/training/test_ignore.py", "tests/test_house.py", _REFERENCE),
    "jaccard or registries or up_to_date",
    (
        "import numpy as np\n"
        "from ustoolkit.recipe import load_recipe\n"
        "from ustoolkit.training import weighted_sum\n"
        "settings = load_recipe('fast', ['loss.terms={ jaccard = 2.0 }']).loss\n"
        "mask = np.array([[[0, 1], [1, 0]]], np.uint8)\n"
        "print(float(weighted_sum(settings)(np.zeros((1, 2, 2, 1), np.float32), mask)[0]))",
        "1.0",
    ),
)
METRIC = Walk(
    "metric",
    "false_discovery",
    {
        "one function in `evaluation/`": changed("ustoolkit/evaluation/overlap.py", ("def mask_pair", METRIC_FUNCTION)),
        "one line in `METRICS`": changed(
            "ustoolkit/evaluation/metrics.py",
            ("    dice,\n    iou,\n", "    dice,\n    false_discovery,\n    iou,\n"),
            (
                '    "dice": _overlap(dice),\n',
                '    "dice": _overlap(dice),\n    "false_discovery": _overlap(false_discovery),\n',
            ),
        ),
        "its name in `LOWER_IS_BETTER`": changed(
            "ustoolkit/evaluation/metrics.py",
            ('frozenset({"pixel_error", ', 'frozenset({"pixel_error", "false_discovery", '),
        ),
    },
    {
        "one function in `evaluation/`": "cannot import name 'false_discovery'",
        "one line in `METRICS`": "`METRICS` of evaluation/metrics.py lacks what `LOWER_IS_BETTER` names",
        "its name in `LOWER_IS_BETTER`": "1 is expected for equal masks, or 0 and the name in LOWER_IS_BETTER",
    },
    ("tests/evaluation/test_metrics.py", "tests/evaluation/test_tables.py"),
    "false_discovery or better or older or drawn or written or broken",
    (
        "import numpy as np\n"
        "from ustoolkit.evaluation import METRICS, evaluate_image\n"
        "from ustoolkit.evaluation.tables import COLUMNS\n"
        "truth, prediction = np.array([[True, False]]), np.array([[True, True]])\n"
        "print(METRICS['false_discovery'](truth, prediction, None), 'false_discovery' in COLUMNS)",
        "0.5 True",
    ),
)
