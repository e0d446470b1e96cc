"""The model that a Keras file describes, checked layer by layer before any is made.

Keras's own deserialisation imports what a file names and calls it, also in its safe mode (CVE-2025-1550, CVE-2025-8747,
CVE-2025-9906). None of it runs here: what is not on the list of `keras_layers` is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from ustoolkit.errors import RunError
from ustoolkit.inference.keras_layers import JOINING, LAYERS, OURS, checked_settings

Reference = tuple[str, int]
REMEDY = "Take a file that 'ustoolkit export' made, or save the network with layers that are known here."
LARGEST_SIDE = 4096  # of an input, pixels

_MODELS = ("Functional", "Sequential")
_MODULES = frozenset(
    f"{package}{module}"
    for package in ("keras", "tf_keras")
    for module in ("", ".layers", ".models", ".src.models.functional", ".src.engine.functional", ".engine.functional")
)
_ENDS = ("input_layers", "output_layers")
_MOST_ENTRIES, _MOST_LEVELS = 4000, 8


@dataclass(frozen=True, eq=False)
class PlannedLayer:
    """A layer as a file describes it, checked.

    Attributes:
        name: within its model, which no other bears.
        kind: its class, a name in the list of layers, 'InputLayer', 'Functional' or 'Sequential'.
        settings: its arguments, plain values; of an input only 'shape'.
        model: of one that is a model itself.
        calls: for each call the outputs that it takes, each as a layer's name and the number of its call.
    """

    name: str
    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    model: "PlannedModel | None" = None
    calls: tuple[tuple[Reference, ...], ...] = ()

    @property
    def takes_list(self) -> bool:
        """Whether it is called on a list of outputs, not on one."""
        return self.kind in JOINING


@dataclass(frozen=True, eq=False)
class PlannedModel:
    """A model of one input and one output.

    Attributes:
        layers: by name, in the order of the file, by which its weights are named.
        source: name of its input.
        target: what its output is.
    """

    layers: dict[str, PlannedLayer]
    source: str
    target: Reference


def plan_network(config: Any, place: str) -> PlannedModel:
    """Checks what a Keras file describes; nothing is made.

    Args:
        config: content of its `config.json`, of tf_keras or Keras 3.
        place: the file, for messages.
    Raises:
        RunError: it is no model of layers that are in the list, with plain settings; or more than a network needs.
    """
    return _Reader(place).model(config, 0)


class _Reader:
    """Checks one configuration."""

    def __init__(self, place: str) -> None:
        self._place, self._entries = place, 0

    def model(self, config: Any, level: int) -> PlannedModel:
        kind = self._class(config)
        if kind not in _MODELS or level > _MOST_LEVELS:
            raise self._refusal("a Functional or Sequential model", kind)
        content = config["config"]
        listed = content.get("layers")
        if not isinstance(listed, list) or not listed:
            raise self._refusal(f"a list of layers in {kind}", listed)
        layers = [self._layer(one, level) for one in listed]
        named = {layer.name: layer for layer in layers}
        if len(named) != len(layers):
            raise self._refusal("layers of different names", "one name twice")
        inputs = [layer.name for layer in layers if layer.kind == "InputLayer"]
        if len(inputs) != 1:
            raise self._refusal("one input of each model", f"{len(inputs)}")
        if kind == "Sequential":
            return self._sequential(layers, inputs[0])
        legacy = any(isinstance(node, list) for one in listed for node in one.get("inbound_nodes", []))
        return self._functional(content, named, inputs[0], legacy)

    def _refusal(self, expected: str, found: Any) -> RunError:
        text = str(found)
        shown = text if len(text) <= 80 else f"{text[:80]}…"
        return RunError(f"{self._place}: expected {expected}, found {shown}. {REMEDY}")

    def _count(self, entries: int) -> None:
        self._entries += entries
        if self._entries > _MOST_ENTRIES:
            raise self._refusal(f"at most {_MOST_ENTRIES} layers and calls", "more")

    def _class(self, config: Any) -> str:
        """The class that an entry names, once it is clear that it is Keras's, or one of the layers here."""
        if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
            raise self._refusal("a description of a model or a layer", config)
        name, module, registered = (config.get(key) for key in ("class_name", "module", "registered_name"))
        if not isinstance(name, str) or (name not in LAYERS and name not in (*_MODELS, "InputLayer")):
            raise self._refusal(f"layers that only compute, of {', '.join(LAYERS)}", name)
        ours = name in OURS
        if not isinstance(module, str) or not (module.startswith("ustoolkit.layers.") if ours else module in _MODULES):
            raise self._refusal(f"{name} of Keras", f"the module {module}")
        if registered not in ((f"ustoolkit>{name}",) if ours else (None, name)):
            raise self._refusal(f"{name} of Keras", f"the registered name {registered}")
        return name

    def _layer(self, config: Any, level: int) -> PlannedLayer:
        kind = self._class(config)
        self._count(1)
        content, model, settings = config["config"], None, {}
        name = content.get("name")
        if not isinstance(name, str) or not name:
            raise self._refusal(f"a name of each {kind}", name)
        if kind in _MODELS:
            model = self.model(config, level + 1)
        elif kind == "InputLayer":
            settings = {"shape": self._shape(content)}
        else:
            settings = checked_settings(kind, content, self._refusal)
        return PlannedLayer(name, kind, settings, model, self._calls(config.get("inbound_nodes", []), kind))

    def _shape(self, content: dict[str, Any]) -> tuple[int | None, ...]:
        shape = content.get("batch_input_shape", content.get("batch_shape"))
        if not isinstance(shape, list) or len(shape) != 4 or not all(_is_side(side) for side in shape[1:]):
            raise self._refusal("an input of (batch, height, width, channels)", shape)
        return tuple(shape[1:])

    def _calls(self, nodes: Any, kind: str) -> tuple[tuple[Reference, ...], ...]:
        """What a layer is called on, from lists, as tf_keras writes them, or from tables, as Keras 3 does."""
        if not isinstance(nodes, list):
            raise self._refusal("a list of a layer's calls", nodes)
        self._count(len(nodes))
        calls = []
        for node in nodes:
            found = list(_flattened(node["args"] if isinstance(node, dict) and "args" in node else node))
            named = [node.get("kwargs")] if isinstance(node, dict) else [one[3] for one in found if len(one) == 4]
            if any(one and (not isinstance(one, dict) or any(one.values())) for one in named):
                raise self._refusal(f"calls of {kind} without arguments", named)
            if not found or (len(found) > 1 and kind not in JOINING):
                raise self._refusal(f"{kind} called on {'outputs' if kind in JOINING else 'one output'}", node)
            calls.append(tuple(self._reference(one) for one in found))
        return tuple(calls)

    def _reference(self, value: list[Any]) -> Reference:
        if not (3 <= len(value) <= 4 and type(value[1]) is int and value[2] == 0):
            raise self._refusal("a layer's only output", value)
        return value[0], value[1]

    def _sequential(self, layers: list[PlannedLayer], source: str) -> PlannedModel:
        if layers[0].name != source:
            raise self._refusal("a Sequential model that begins with its input", layers[0].kind)
        chained = {source: layers[0]}
        for before, layer in pairwise(layers):
            chained[layer.name] = replace(layer, calls=(((before.name, 0),),))
        return PlannedModel(chained, source, (layers[-1].name, 0))

    def _functional(
        self, content: dict[str, Any], layers: dict[str, PlannedLayer], source: str, legacy: bool
    ) -> PlannedModel:
        # tf_keras counts a model's own making as its first call.
        first = {name: int(legacy and layer.model is not None) for name, layer in layers.items()}
        calls = {name: 1 if layer.kind == "InputLayer" else len(layer.calls) for name, layer in layers.items()}

        def known(reference: Reference) -> Reference:
            name, number = reference
            if name not in layers or not 0 <= number - first[name] < calls[name]:
                raise self._refusal("calls of layers in the model", name)
            return name, number - first[name]

        linked = {
            name: replace(layer, calls=tuple(tuple(map(known, call)) for call in layer.calls))
            for name, layer in layers.items()
        }
        ends = {key: [self._reference(one) for one in _flattened(content.get(key))] for key in _ENDS}
        if ends["input_layers"] != [(source, 0)] or len(ends["output_layers"]) != 1:
            raise self._refusal("one input and one output of each model", ends)
        return PlannedModel(linked, source, known(ends["output_layers"][0]))


def _flattened(value: Any) -> Iterator[list[Any]]:
    """The references, [name, call, output, …], in lists of lists or tables of either form."""
    pending = [value]
    while pending:
        one = pending.pop()
        if (
            isinstance(one, dict)
            and one.get("class_name") == "__keras_tensor__"
            and isinstance(one.get("config"), dict)
        ):
            pending.append(one["config"].get("keras_history"))
        elif isinstance(one, list) and one and isinstance(one[0], str):
            yield one
        elif isinstance(one, list):
            pending += reversed(one)
        else:
            yield []  # no reference, which is refused as one


def _is_side(value: Any) -> bool:
    return value is None or (type(value) is int and 0 < value <= LARGEST_SIDE)
