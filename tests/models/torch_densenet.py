"""torchvision's DenseNet in torch's own layers, under its public names, to compare with."""

from collections import OrderedDict

import numpy as np


def build(growth_rate, initial_filters, blocks, bottleneck=4):
    """The module, of three channels in, with a head of ten classes."""
    from torch import cat, nn

    class DenseLayer(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm1, self.relu1 = nn.BatchNorm2d(width), nn.ReLU()
            self.conv1 = nn.Conv2d(width, bottleneck * growth_rate, 1, bias=False)
            self.norm2, self.relu2 = nn.BatchNorm2d(bottleneck * growth_rate), nn.ReLU()
            self.conv2 = nn.Conv2d(bottleneck * growth_rate, growth_rate, 3, padding=1, bias=False)

        def forward(self, inputs):
            return cat([inputs, self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(inputs))))))], 1)

    parts = OrderedDict(
        conv0=nn.Conv2d(3, initial_filters, 7, stride=2, padding=3, bias=False),
        norm0=nn.BatchNorm2d(initial_filters),
        relu0=nn.ReLU(),
        pool0=nn.MaxPool2d(3, stride=2, padding=1),
    )
    width = initial_filters
    for block, number in enumerate(blocks, start=1):
        layers = OrderedDict()
        for place in range(1, number + 1):
            layers[f"denselayer{place}"] = DenseLayer(width)
            width += growth_rate
        parts[f"denseblock{block}"] = nn.Sequential(layers)
        if block < len(blocks):
            parts[f"transition{block}"] = nn.Sequential(
                OrderedDict(
                    norm=nn.BatchNorm2d(width),
                    relu=nn.ReLU(),
                    conv=nn.Conv2d(width, width // 2, 1, bias=False),
                    pool=nn.AvgPool2d(2),
                )
            )
            width //= 2
    parts["norm5"] = nn.BatchNorm2d(width)
    return nn.Sequential(OrderedDict(features=nn.Sequential(parts), classifier=nn.Linear(width, 10)))


def pooled_features(module, images):
    """What the head of a module is given for float32 images (batch, height, width, channels), normalised."""
    import torch

    module.eval()
    with torch.no_grad():
        features = module.features(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        return torch.relu(features).mean((2, 3)).numpy()


def random_state(growth_rate, initial_filters, blocks, seed=0):
    """Arrays of the same names and shapes without torch, as training might leave them."""
    random, arrays = np.random.default_rng(seed), {}

    def norm(name, width):
        arrays[f"{name}.weight"] = random.uniform(0.5, 1.5, width)
        arrays[f"{name}.bias"] = random.normal(0, 0.3, width)
        arrays[f"{name}.running_mean"] = random.normal(0, 0.3, width)
        arrays[f"{name}.running_var"] = random.uniform(0.5, 1.5, width)
        arrays[f"{name}.num_batches_tracked"] = np.array(7)

    def kernel(name, filters, width, side):
        deviation = np.sqrt(2 / (width * side**2))
        arrays[f"{name}.weight"] = random.normal(0, deviation, (filters, width, side, side))

    kernel("features.conv0", initial_filters, 3, 7)
    norm("features.norm0", initial_filters)
    width = initial_filters
    for block, number in enumerate(blocks, start=1):
        for place in range(1, number + 1):
            name = f"features.denseblock{block}.denselayer{place}"
            norm(f"{name}.norm1", width)
            kernel(f"{name}.conv1", 4 * growth_rate, width, 1)
            norm(f"{name}.norm2", 4 * growth_rate)
            kernel(f"{name}.conv2", growth_rate, 4 * growth_rate, 3)
            width += growth_rate
        if block < len(blocks):
            norm(f"features.transition{block}.norm", width)
            kernel(f"features.transition{block}.conv", width // 2, width, 1)
            width //= 2
    norm("features.norm5", width)
    arrays["classifier.weight"], arrays["classifier.bias"] = random.normal(size=(10, width)), random.normal(size=10)
    return {name: np.asarray(values, np.int64 if "num_" in name else np.float32) for name, values in arrays.items()}
