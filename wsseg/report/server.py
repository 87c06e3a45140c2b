"""The page over a run of any size, served to this machine alone: pictures are made when they are asked for.

The address holds a random token, without which nothing is answered; names in it are looked up among the run's own splits,
layers and ids, and never become paths.
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
from wsseg.report.contents import RunReport
from wsseg.report.page import render

SIDE = 900  # px, of a picture that is asked for
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, max-age=600",
}


def application(contents: RunReport, token: str) -> Starlette:
    """Return the ASGI application that shows one run below ``/TOKEN/``."""
    page = render(contents, served=True)
    items = {name: {item.id: item for item in split.images.items} for name, split in contents.splits.items()}

    async def show(request: Request) -> Response:
        return HTMLResponse(page, headers=_HEADERS)

    async def layer(request: Request) -> Response:
        split = contents.splits.get(request.path_params["split"])
        found = next((x for x in split.layers if x.name == request.path_params["layer"]), None) if split else None
        item = items.get(request.path_params["split"], {}).get(request.query_params.get("id", ""))
        if split is None or found is None or item is None:
            return PlainTextResponse("no such picture", 404, headers=_HEADERS)
        try:
            media, data = await run_in_threadpool(pictures.picture, split, found, item, SIDE)
        except WssegError as error:
            return PlainTextResponse(str(error), 410, headers=_HEADERS)
        return Response(data, media_type=media, headers=_HEADERS)

    inside = [Route("/", show), Route("/layer/{split}/{layer}", layer)]
    guards = [
        Middleware(
            TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]
        ),  # no page elsewhere may name us otherwise
        Middleware(GZipMiddleware, minimum_size=2000),
    ]
    return Starlette(routes=[Mount(f"/{token}", routes=inside)], middleware=guards)


def serve(contents: RunReport, port: int, ready: Callable[[str], None]) -> None:
    """Serve one run on 127.0.0.1 until Ctrl-C.

    Args:
        contents: the run.
        port: 0 for any that is free.
        ready: is called with the address, once there is an answer.

    Raises:
        WssegError: the port is taken.
    """
    token = secrets.token_urlsafe(24)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # who comes from now on waits for the answer
    except OSError as error:
        raise WssegError(f"port {port} of 127.0.0.1: {error.strerror}; choose another with --port") from error
    app = application(contents, token)
    ready(f"http://127.0.0.1:{listener.getsockname()[1]}/{token}/")
    with contextlib.suppress(KeyboardInterrupt):  # that is how it ends
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
