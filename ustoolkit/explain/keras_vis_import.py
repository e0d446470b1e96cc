"""keras-vis 0.4.1 as a private copy, which alone sees the names of 2018 that it asks for."""

import builtins
import functools
import importlib
import importlib.util
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import scipy.ndimage
import tensorflow as tf
import tf_keras as keras
from PIL import Image
from tf_keras.src.layers.convolutional.base_conv import Conv
from tf_keras.src.layers.pooling.base_pooling1d import Pooling1D
from tf_keras.src.layers.pooling.base_pooling2d import Pooling2D
from tf_keras.src.layers.pooling.base_pooling3d import Pooling3D

from ustoolkit.errors import RunError


class HeatmapRecorder:
    """In place of matplotlib's colour maps: keeps the values that keras-vis colours, which it does not hand out.

    Attributes:
        heatmap: float, in [0, 1], of any shape: the last one that was coloured.
    """

    def __init__(self) -> None:
        self.heatmap = np.zeros(0)

    def jet(self, heatmap: np.ndarray) -> np.ndarray:
        """Colours values in [0, 1] as matplotlib does; returns float (…, 4), red, green, blue, opacity."""
        self.heatmap = heatmap
        return matplotlib.colormaps["jet"](heatmap)


class DescentRecorder:
    """Callback and input modifier of keras-vis at once: keeps the image that it takes for the best, as it was.

    It has to be the first of the modifiers, whose `post` is the last to be called.

    Attributes:
        image: float32 (height, width, channels), one step behind that of the lowest loss.
        loss: the lowest one.
        activation: mean output of the filter at that loss; NaN where its weight is 0.

    Args:
        place: of what an error says.
        activation_name: that keras-vis gives the activation's loss.
        activation_weight: of that loss; 0 where there is none.
    """

    def __init__(self, place: str, activation_name: str, activation_weight: float) -> None:
        self._place, self._name, self._weight = place, activation_name, activation_weight
        self._met = self._activation = math.nan
        self.loss, self.activation = math.inf, math.nan
        self.image = np.zeros(0, np.float32)

    def callback(
        self, i: int, named_losses: Iterable[tuple[str, float]], overall_loss: float, grads: Any, wrt_value: Any
    ) -> None:
        """Notes the loss of the image before the step.

        Raises:
            RunError: that of the first image is not finite, so that none would ever be the lowest.
        """
        self._met = float(overall_loss)
        if i == 0 and not math.isfinite(self._met):
            raise RunError(
                f"{self._place}: expected a loss that is a number, found {self._met} for the first image. Begin with "
                "finite pixel values of 0 to 255, or lower the objective's lp_norm."
            )
        if self._weight:
            self._activation = -float(dict(named_losses)[self._name]) / self._weight

    def on_end(self) -> None:
        """Does nothing; keras-vis calls it."""

    def pre(self, image: np.ndarray) -> np.ndarray:
        """Leaves the image as it is."""
        return image

    def post(self, image: np.ndarray) -> np.ndarray:
        """Leaves the image as it is, and keeps a copy if the loss before the step was the lowest."""
        if self._met < self.loss:
            self.loss, self.activation = self._met, self._activation
            self.image = np.array(image[0], np.float32)
        return image


@dataclass(frozen=True)
class KerasVisLibrary:
    """The modules of keras-vis, and where the values of its heat maps are found."""

    losses: ModuleType
    regularizers: ModuleType
    optimizer: ModuleType
    input_modifiers: ModuleType
    visualization: ModuleType
    tensorflow_backend: ModuleType
    recorder: HeatmapRecorder


@functools.cache
def keras_vis_library() -> KerasVisLibrary:
    """Loads keras-vis, once a process.

    Its modules are run with an `__import__` of their own, so nothing is lent to the rest of the process, not even for a
    moment: neither `keras` in `sys.modules` nor a name in `collections` or `scipy`. Imports within its functions find
    the same names whenever they run.

    Raises:
        RunError: keras-vis is not installed, or what is installed as `vis` is something else.
    """
    try:
        specification = importlib.util.find_spec("vis")
    except (ImportError, ValueError):
        specification = None
    root = Path(specification.origin).parent if specification and specification.origin else None
    if root is None or not (root / "regularizers.py").exists():
        found = "no package of the name 'vis'" if root is None else f"another package in {root}"
        raise RunError(f"keras-vis: expected version 0.4.1, found {found}. Install it: pip install keras-vis==0.4.1")
    recorder = HeatmapRecorder()
    package = _PrivatePackage(root, _names_of_2018(recorder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a docstring of it has an escape that Python no longer likes
        return KerasVisLibrary(
            losses=package.load("vis.losses"),
            regularizers=package.load("vis.regularizers"),
            optimizer=package.load("vis.optimizer"),
            input_modifiers=package.load("vis.input_modifiers"),
            visualization=package.load("vis.visualization"),
            tensorflow_backend=package.load("vis.backend.tensorflow_backend"),
            recorder=recorder,
        )


class _PrivatePackage:
    """A package whose modules are kept here, not in `sys.modules`, and import by names that are given them.

    Args:
        root: folder of the package, named as it is.
        given: what `__import__` gives for a name, in place of what is installed.
    """

    def __init__(self, root: Path, given: dict[str, Any]) -> None:
        self._root, self._given = root, given
        self._modules: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import}

    def load(self, name: str) -> ModuleType:
        """The module of a name such as 'vis.losses', run when it is first asked for."""
        if name not in self._modules:
            file = self._file(name)
            folders = [str(file.parent)] if file and file.name == "__init__.py" else None
            specification = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
            if file is None or specification is None or specification.loader is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            module = importlib.util.module_from_spec(specification)
            # Code takes its built-in functions, `__import__` among them, from here if they are there when it is run.
            module.__dict__["__builtins__"] = self._builtins
            self._modules[name] = module
            specification.loader.exec_module(module)
            parent, _, last = name.rpartition(".")
            if parent in self._modules:
                setattr(self._modules[parent], last, module)
        return self._modules[name]

    def _file(self, name: str) -> Path | None:
        path = self._root.joinpath(*name.split(".")[1:])
        return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.exists()), None)

    def _import(
        self,
        name: str,
        globals: dict[str, Any] | None = None,
        locals: dict[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if level:
            name = importlib.util.resolve_name("." * level + name, (globals or {})["__package__"])
        if name in self._given:
            return self._given[name]
        if name.split(".")[0] != self._root.name:
            return builtins.__import__(name, globals, locals, fromlist)
        module = self.load(name)
        for part in fromlist or ():
            if not hasattr(module, part) and self._file(f"{name}.{part}"):
                self.load(f"{name}.{part}")
        return module


def _names_of_2018(recorder: HeatmapRecorder) -> dict[str, Any]:
    backend = SimpleNamespace(**vars(keras.backend))
    backend.function = _function
    # Networks are built for inference, so what keras-vis feeds here decides nothing.
    backend.learning_phase = lambda: tf.compat.v1.placeholder_with_default(False, ())
    backend.image_data_format = lambda: "channels_last"
    backend.floatx = lambda: "float32"
    return {
        "collections": SimpleNamespace(Iterable=Iterable),
        "keras": SimpleNamespace(backend=backend),
        "keras.layers.convolutional": SimpleNamespace(_Conv=Conv),
        "keras.layers.pooling": SimpleNamespace(_Pooling1D=Pooling1D, _Pooling2D=Pooling2D, _Pooling3D=Pooling3D),
        "keras.models": keras.models,
        "matplotlib.cm": SimpleNamespace(cm=recorder),
        # Importing the real one searches the whole machine for fonts.
        "matplotlib.font_manager": SimpleNamespace(font_manager=_Fonts()),
        "scipy.misc": SimpleNamespace(imresize=_imresize),
        "scipy.ndimage.interpolation": scipy.ndimage,
        "tensorflow": tf.compat.v1,
    }


class _Fonts:
    """matplotlib's font manager, imported only if it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("matplotlib.font_manager"), name)


def _function(inputs: list[tf.Tensor], outputs: list[tf.Tensor]) -> Any:
    """`keras.backend.function` for keras-vis, which also fetches what it feeds, as a session now refuses to.

    Values come out in float32, whatever type the network computes in.
    """
    return keras.backend.function(inputs, [tf.identity(tf.cast(output, tf.float32)) for output in outputs])


def _imresize(values: np.ndarray, size: tuple[int, int], interp: str, mode: str) -> np.ndarray:
    """SciPy's former function, for the one way in which keras-vis calls it: bicubic, of floats.

    SciPy called Pillow. It took the size as height and width.
    """
    image = Image.fromarray(np.asarray(values, np.float32)).convert(mode)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling[interp.upper()]))
