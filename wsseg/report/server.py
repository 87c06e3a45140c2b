"""The page of a run of any size, served to this machine only; pictures are made on request.

The address contains a random token, and requests without it get 404. Names in an address are looked up among the run's
splits, layers and ids, and never become paths.
"""

import contextlib
import secrets
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from wsseg.errors import WssegError
from wsseg.report import pictures
from wsseg.report.page import render
from wsseg.report.run_report import RunReport

SIDE = 900  # px, the longer side of a picture
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, max-age=600",
}


def application(report: RunReport, token: str) -> Starlette:
    """Return the ASGI application that shows one run below ``/TOKEN/``."""
    page = render(report, served=True)
    items = {name: {item.id: item for item in split.images.items} for name, split in report.splits.items()}
    layers = {name: {layer.name: layer for layer in split.layers} for name, split in report.splits.items()}
    if report.examples is not None:
        layers[report.examples.split.images.split] |= {layer.name: layer for _, layer in report.examples.columns}

    async def show(request: Request) -> Response:
        return HTMLResponse(page, headers=_HEADERS)

    async def picture(request: Request) -> Response:
        layer = layers.get(request.path_params["split"], {}).get(request.path_params["layer"])
        item = items.get(request.path_params["split"], {}).get(request.query_params.get("id", ""))
        if layer is None or item is None:
            return PlainTextResponse("no such picture", 404, headers=_HEADERS)
        try:
            media, data = await run_in_threadpool(pictures.picture, layer, item, SIDE)
        except WssegError as error:
            return PlainTextResponse(str(error), 410, headers=_HEADERS)
        return Response(data, media_type=media, headers=_HEADERS)

    routes = [Route("/", show), Route("/layer/{split}/{layer}", picture)]
    # other host names are refused: a foreign page whose name points to this machine (DNS rebinding) must get nothing
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
        Middleware(GZipMiddleware, minimum_size=2000),
    ]
    return Starlette(routes=[Mount(f"/{token}", routes=routes)], middleware=middleware)


def serve(report: RunReport, port: int, ready: Callable[[str], None]) -> None:
    """Serve one run on 127.0.0.1 until Ctrl-C.

    Args:
        report: the run.
        port: 0 for any free port.
        ready: called with the address as soon as requests are accepted.

    Raises:
        WssegError: the port is in use.
    """
    token = secrets.token_urlsafe(24)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # from now on, requests wait for their answer
    except OSError as error:
        raise WssegError(f"port {port} of 127.0.0.1: {error.strerror}; choose another with --port") from error
    app = application(report, token)
    ready(f"http://127.0.0.1:{listener.getsockname()[1]}/{token}/")
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is the normal end
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
