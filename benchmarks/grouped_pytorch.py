"""PyTorch's side of `grouped.py`: `Conv2d`. A task is 'layout=default groups=8' or 'layout=channels_last groups=8'."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side_protocol import serve
from torch import nn

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_LAYOUTS = {"default": torch.contiguous_format, "channels_last": torch.channels_last}


class PyTorch:
    """Times layers, and leaves what they give in files.

    Args:
        folder: as for the other side; arrays come and go in TensorFlow's order of axes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stored = np.load(folder / "layer.npz")
        torch.set_num_threads(CORES)

    def hello(self) -> dict[str, Any]:
        """Version and threads."""
        return {"torch": torch.__version__, "threads of each": torch.get_num_threads()}

    def describe(self, subject: str) -> dict[str, Any]:
        """Leaves outputs and the gradients of inputs, kernel and bias in a file of the answer's name."""
        outputs, by_inputs, by_kernel, by_bias = (tensor.detach() for tensor in self.prepare(subject)())
        path = self._folder / f"{subject} of PyTorch.npz"
        images = {"outputs": outputs.permute(0, 2, 3, 1).numpy(), "inputs": by_inputs.permute(0, 2, 3, 1).numpy()}
        np.savez(path, **images, kernel=by_kernel.permute(2, 3, 1, 0).numpy(), bias=by_bias.numpy())
        return {"file": path.name}

    def prepare(self, task: str) -> Callable[[], tuple[torch.Tensor, ...]]:
        """See `side_protocol.Framework`."""
        how = dict(word.split("=") for word in task.split())
        layout, groups = _LAYOUTS[how["layout"]], int(how["groups"])
        inputs, outer = (
            torch.from_numpy(self._stored[name]).permute(0, 3, 1, 2).contiguous(memory_format=layout)
            for name in ("inputs", "outer")
        )
        inputs.requires_grad_()
        layer = nn.Conv2d(inputs.shape[1], inputs.shape[1], 3, padding=1, groups=groups)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self._stored[f"kernel_{groups}"]).permute(3, 2, 0, 1))
            layer.bias.copy_(torch.from_numpy(self._stored["bias"]))
        layer = layer.to(memory_format=layout)

        def step() -> tuple[torch.Tensor, ...]:
            outputs = layer(inputs)
            return outputs, *torch.autograd.grad(outputs, (inputs, layer.weight, layer.bias), outer)

        return step


if __name__ == "__main__":
    serve(PyTorch(Path(sys.argv[1])))
