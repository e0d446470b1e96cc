"""The addresses of the server, and what answers at each."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import resources
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ustoolkit.serving.answers import describe
from ustoolkit.serving.batching import Arrays, Batcher, Job
from ustoolkit.serving.bodies import FILES, JSON, check_media, read_body
from ustoolkit.serving.examples import examples
from ustoolkit.serving.gate import Gate
from ustoolkit.serving.refusal import Refusal
from ustoolkit.serving.rest import Limits, model_metadata, model_status, read_prediction
from ustoolkit.serving.served_model import ServedModel
from ustoolkit.serving.settings import ServerSettings
from ustoolkit.serving.uploads import Upload, read_spacing, read_upload
from ustoolkit.serving.writing import as_json, written, written_refusal

Result = TypeVar("Result")

_SCRIPTS = ("page", "viewer", "findings", "requests", "about", "elements")
_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript") for name in _SCRIPTS},
}
_LARGEST_AT_ONCE = 200_000  # bytes that are read or written between other requests, else in a thread
_PREDICT = ":predict"
_SIGNATURE = "with_spacing"
_UNKNOWN_ADDRESS = "no such address here. See GET /v1/models, or the page at /."


class Server:
    """Answers requests for one model.

    Args:
        model: loaded.
        settings: the limits.
    """

    def __init__(self, model: ServedModel, settings: ServerSettings) -> None:
        self.model, self.settings = model, settings
        self.batcher = Batcher(
            model.call,
            settings.batch,
            settings.largest_pixels,
            settings.queue,
            settings.workers,
            settings.longest_wait_ms / 1000,
            settings.queue_pixels,
        )
        self._limits = Limits(settings.batch, settings.largest_pixels)
        self._threads = ThreadPoolExecutor(2, "answers")
        application = Starlette(
            routes=self._routes(),
            exception_handlers={Refusal: _refused, HTTPException: _refused_by_router},
        )
        application.router.redirect_slashes = False
        self.gate = Gate(application, settings)

    def close(self) -> None:
        """Ends the threads, once all that they began is done."""
        self.batcher.close()
        self._threads.shutdown()

    def _routes(self) -> list[Route]:
        page = [Route(path, _file(name, media)) for path, (name, media) in _PAGE.items()]
        of_model = ("/v1/models/{name}", "/v1/models/{name}/versions/{version}")
        return [
            *page,
            *(Route(f"{path}{_PREDICT}", self.predict, methods=["POST"]) for path in of_model),
            *(Route(f"{path}/metadata", self.signatures) for path in of_model),
            *(Route(path, self.status) for path in of_model),
            Route("/v1/models", self.models),
            Route("/segment", self.segment, methods=["POST"]),
            Route("/metadata", self.metadata),
            Route("/examples", self.examples),
            Route("/examples/{number}", self.example),
            Route("/health", self.health),
            Route("/ready", self.ready),
        ]

    async def predict(self, request: Request) -> Response:
        """POST /v1/models/NAME[/versions/N]:predict, as TensorFlow Serving has it."""
        self._check_model(request)
        check_media(request, JSON, "Send JSON with the header 'Content-Type: application/json'.")
        body = await read_body(request, self.settings.largest_upload)
        prediction = await self._apart(len(body), read_prediction, body, self.model, self._limits)
        del body
        outputs = await self._called(prediction.job)
        size = sum(output.nbytes for output in outputs.values())
        return as_json(await self._apart(size, prediction.written, outputs))

    async def segment(self, request: Request) -> Response:
        """POST /segment, one image file as the body."""
        start = time.perf_counter()
        spacing = _spacing_of(request)
        check_media(request, FILES, "Send the file's bytes as the body, not as a form.")
        body = await read_body(request, self.settings.largest_upload)
        upload = await self._in_thread(read_upload, body, self.settings.largest_pixels)
        del body
        if spacing is not None:
            upload = replace(upload, spacing_mm=spacing)
        outputs = await self._called(_job_of(upload))
        answer = await self._in_thread(describe, self.model, upload, outputs)
        return written({**answer, "milliseconds": round(1000 * (time.perf_counter() - start), 1)})

    async def status(self, request: Request) -> Response:
        """GET /v1/models/NAME[/versions/N]."""
        self._check_model(request)
        return written(model_status(self.model))

    async def signatures(self, request: Request) -> Response:
        """GET /v1/models/NAME[/versions/N]/metadata."""
        self._check_model(request)
        return written(model_metadata(self.model))

    async def models(self, request: Request) -> Response:
        """GET /v1/models: the one that is served."""
        return written({"models": [{"name": self.model.name, "version": self.model.version, "task": self.model.task}]})

    async def metadata(self, request: Request) -> Response:
        """GET /metadata: the export's own."""
        return written(self.model.metadata)

    async def examples(self, request: Request) -> Response:
        """GET /examples: phantoms to try."""
        listed = [
            {"name": example.name, "url": f"/examples/{number}", "spacing_mm": example.spacing_mm}
            for number, example in enumerate(examples())
        ]
        return written({"examples": listed})

    async def example(self, request: Request) -> Response:
        """GET /examples/N: a phantom as PNG."""
        by_number = {str(number): example for number, example in enumerate(examples())}
        found = by_number.get(request.path_params["number"])
        if found is None:
            raise Refusal(404, "no such example. See GET /examples.")
        return Response(found.png, media_type="image/png")

    async def health(self, request: Request) -> Response:
        """GET /health: whether the server runs."""
        return written({"status": "running"})

    async def ready(self, request: Request) -> Response:
        """GET /ready: whether it takes requests."""
        if self.gate.stopping:
            raise Refusal(503, "The server is stopping.")
        return written({"status": "ready"})

    def _check_model(self, request: Request) -> None:
        name, version = request.path_params["name"], request.path_params.get("version", self.model.version)
        if request.method != "POST" and request.scope["path"].endswith(_PREDICT):
            raise HTTPException(405, headers={"Allow": "POST"})
        if (name, version) != (self.model.name, self.model.version):
            raise Refusal(
                404, f"no such model or version here: {self.model.name}, version {self.model.version}, is served."
            )

    async def _called(self, job: Job) -> Arrays:
        try:
            return await asyncio.wrap_future(self.batcher.submit(job))
        except ValueError:
            raise Refusal(
                400, "the model cannot read these values: an image is damaged or cut short. Send it again."
            ) from None

    async def _apart(self, size: int, function: Callable[..., Result], *arguments: Any) -> Result:
        """In a thread what takes so long that others would wait."""
        if size <= _LARGEST_AT_ONCE:
            return function(*arguments)
        return await self._in_thread(function, *arguments)

    async def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _spacing_of(request: Request) -> tuple[float, float] | None:
    parameters = request.query_params.multi_items()
    if [name for name, _ in parameters] not in ([], ["spacing_mm"]):
        raise Refusal(400, "expected no parameter but spacing_mm, once, found another. Leave it out.")
    return read_spacing(parameters[0][1]) if parameters else None


def _job_of(upload: Upload) -> Job:
    images = upload.pixels[np.newaxis]
    spacing = np.array([upload.spacing_mm or (0, 0)], np.float32)
    pixels = images.shape[1] * images.shape[2]
    return Job(_SIGNATURE, images.shape[1:], {"images": images, "spacing_mm": spacing}, 1, pixels)


def _file(name: str, media: str) -> Callable[[Request], Awaitable[Response]]:
    content = resources.files("ustoolkit.serving").joinpath("page", name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=f"{media}; charset=utf-8")

    return answer


async def _refused(request: Request, refusal: Exception) -> Response:
    return written_refusal(refusal) if isinstance(refusal, Refusal) else Response(status_code=500)


async def _refused_by_router(request: Request, problem: Exception) -> Response:
    status, headers = getattr(problem, "status_code", 404), getattr(problem, "headers", None)
    if status == 405:
        return written_refusal(Refusal(405, "no such method at this address. See the header Allow.", headers))
    return written_refusal(Refusal(status, _UNKNOWN_ADDRESS, headers))
