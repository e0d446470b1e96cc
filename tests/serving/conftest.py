"""One tiny export for all tests of the server, and the server within the tests' own process."""

import asyncio
import shutil

import httpx
import numpy as np
import pytest

from ustoolkit.data.image_files import encode_png
from ustoolkit.data.phantom import phantom_samples
from ustoolkit.export.exports import ExportSettings, export_runs
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.inference.run_segmenter import RunSegmenter
from ustoolkit.run import Run
from ustoolkit.serving.app import Server
from ustoolkit.serving.served_model import ServedModel
from ustoolkit.serving.settings import ServerSettings


@pytest.fixture(scope="session")
def images():
    """Phantoms of some sizes, uint8 (height, width, 1)."""
    sizes = [(64, 64), (48, 80), (64, 64)]
    return [next(phantom_samples(1, seed, size)).image for seed, size in enumerate(sizes, 20)]


@pytest.fixture(scope="session")
def probabilities(trained_run, images):
    """What the tiny run gives, float32 (height, width, 1) of each image."""
    return list(RunSegmenter(trained_run).probabilities(images))


@pytest.fixture(scope="session")
def served_run(trained_run, probabilities, tmp_path_factory):
    """The tiny run, with a threshold that finds a fifth of each image: trained for moments, it is sure of nothing."""
    run = Run(shutil.copytree(trained_run.folder, tmp_path_factory.mktemp("served") / "run"))
    found = [np.quantile(one, 0.8) for one in probabilities]
    run.keep_tuned("threshold", {"threshold": round(float(np.median(found)), 4)}, {})
    return run


@pytest.fixture(scope="session")
def expected(served_run, probabilities):
    """Probability and mask of each image, and where it is certain: a rounding from the threshold it may be either."""
    inference = served_run.inference
    return [(one, to_mask(one, inference), np.abs(one[..., 0] - inference.threshold) > 1e-4) for one in probabilities]


@pytest.fixture(scope="session")
def exported(served_run, tmp_path_factory):
    """The folder of its versions: 3, and an older 2."""
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    version = export_runs([served_run], folder, ExportSettings(version=3))
    shutil.copytree(version, folder / "2")
    return folder


@pytest.fixture(scope="session")
def model(exported):
    """The export, loaded."""
    return ServedModel(exported)


@pytest.fixture(scope="session")
def settings(exported):
    """Limits that tests can reach."""
    return ServerSettings(exported, largest_upload_mb=1, largest_megapixels=0.25, batch=4, queue=16)


@pytest.fixture(scope="session")
def server(model, settings):
    """Without a socket."""
    made = Server(model, settings)
    yield made
    made.close()


class Client:
    """Sends requests to an application, without a socket."""

    def __init__(self, app):
        self.app = app

    def together(self, *requests):
        """Answers of requests that are sent at once, each (method, address, options)."""

        async def send():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8501") as client:
                sent = (client.request(method, address, **options) for method, address, options in requests)
                return await asyncio.gather(*sent)

        return asyncio.run(send())

    def get(self, address, **options):
        return self.together(("GET", address, options))[0]

    def post(self, address, **options):
        return self.together(("POST", address, options))[0]


@pytest.fixture
def client(server):
    """Sends requests to it."""
    return Client(server.gate)


@pytest.fixture(scope="session")
def png(images):
    """The first image's file."""
    return encode_png(images[0])
