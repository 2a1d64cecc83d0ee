"""The pages and their responses. `door.py` has already checked each request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from bulkup.core.errors import BulkupError, NotFoundError
from bulkup.report.page import stylesheet
from bulkup.report.text import clean
from bulkup.web.board import Board
from bulkup.web.door import App, Door, Keys
from bulkup.web.feeds import EventStream, Feeds
from bulkup.web.migrations_page import migrations_regions
from bulkup.web.reader import Reader
from bulkup.web.regions import Region
from bulkup.web.render import render
from bulkup.web.run_page import KINDS, RunPage, notice
from bulkup.web.runs_page import runs_regions
from bulkup.web.steering import steer_run

MAX_WORDS = 200
"""Characters of a search."""
WAIT_S = 5.0
"""How long a page waits for Datastore before it is sent without Datastore's part."""

_TYPES = {".js": "text/javascript", ".css": "text/css"}


def make_app(board: Board, keys: Keys, feeds: Feeds, port: int) -> App:
    """The whole application. `port`: where it listens, for checking the Host header."""
    pages = Pages(board, keys, feeds)
    routes = [
        Route("/", pages.runs),
        Route("/migrations", pages.migrations),
        Route("/runs/{run_id}", pages.run),
        Route("/runs/{run_id}/{verb}", pages.steer, methods=["POST"]),
        Route("/events/runs", pages.runs_events),
        Route("/events/migrations", pages.migrations_events),
        Route("/events/runs/{run_id}", pages.run_events),
        Route("/static/{name}", pages.static),
    ]
    app = Starlette(
        routes=[Mount(keys.base, routes=routes)],
        exception_handlers={
            NotFoundError: pages.not_found, 404: pages.not_found, 500: pages.bug,
        },
    )  # fmt: skip
    return Door(app, keys, port)


class Pages:
    """One method per page, and one per stream of events."""

    def __init__(self, board: Board, keys: Keys, feeds: Feeds) -> None:
        self._board = board
        self._base = keys.base
        self._form_token = keys.form_token
        self._feeds = feeds
        self._reader = Reader()
        folder = resources.files("bulkup.web") / "static"
        self._static = {name: (folder / name).read_bytes() for name in ("live.js", "web.css")}
        self._static["page.css"] = stylesheet().encode()

    # --- all runs ---

    async def runs(self, request: Request) -> Response:
        words = _words(request)
        regions = await self._reader.call(
            partial(runs_regions, self._board, self._base, words, wait_s=WAIT_S)
        )
        stream = f"{self._base}/events/runs?{urlencode({'q': words})}"
        return self._page("runs.html", stream=stream, here="runs", words=words, regions=regions)

    async def runs_events(self, request: Request) -> EventStream:
        words = _words(request)
        return self._events(("runs", words), partial(runs_regions, self._board, self._base, words))

    # --- migrations ---

    async def migrations(self, request: Request) -> Response:
        regions = await self._reader.call(
            partial(migrations_regions, self._board, self._base, wait_s=WAIT_S)
        )
        stream = f"{self._base}/events/migrations"
        return self._page("migrations.html", stream=stream, here="migrations", regions=regions)

    async def migrations_events(self, request: Request) -> EventStream:
        return self._events("migrations", partial(migrations_regions, self._board, self._base))

    # --- one run ---

    async def run(self, request: Request) -> Response:
        page, run_id = self._run_page(request)
        words, kind = _words(request), request.query_params.get("kind", "")
        kind = kind if kind in KINDS else ""
        regions = await self._reader.call(partial(page.regions, wait_s=WAIT_S))
        found = await self._reader.call(partial(page.found, words, kind))
        return self._page(
            "run.html",
            stream=f"{self._base}/events/runs/{quote(run_id, safe='')}",
            here="",
            run_id=run_id,
            title=run_id,
            has_folder=self._board.folder_of(run_id) is not None,
            regions=regions,
            words=words,
            kind=kind,
            kinds=KINDS.items(),
            found=Markup(found),  # noqa: S704 - from a template
        )

    async def run_events(self, request: Request) -> EventStream:
        page, run_id = self._run_page(request)
        await self._reader.call(page.regions)  # raises NotFoundError
        return self._events(("run", run_id), partial(_or_gone, page.regions))

    async def steer(self, request: Request) -> Response:
        run_id, verb = request.path_params["run_id"], request.path_params["verb"]
        form: Mapping[str, str] = request.scope["form"]
        status = 200
        try:
            message = await self._reader.call(partial(steer_run, self._board, run_id, verb, form))
        except BulkupError as error:
            message, status = error.message, 404 if isinstance(error, NotFoundError) else 409
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse({"message": clean(message)}, status)
        back = f"{self._base}/runs/{quote(run_id, safe='')}"
        title = "Done" if status == 200 else "Not done"
        return self._message(title, message, status, back=back)

    def _run_page(self, request: Request) -> tuple[RunPage, str]:
        run_id: str = request.path_params["run_id"]
        return RunPage(self._board, run_id, self._base, self._form_token), run_id

    # --- the rest ---

    async def static(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        if name not in self._static:
            raise NotFoundError("There is no such file.")
        return Response(self._static[name], media_type=_TYPES[name[name.rindex(".") :]])

    async def not_found(self, request: Request, error: Exception) -> Response:
        message = error.message if isinstance(error, BulkupError) else "There is no such page."
        return self._message("Not found", message, 404)

    async def bug(self, request: Request, error: Exception) -> Response:
        return self._message(
            "An error in bulkup",
            f"This page could not be made ({type(error).__name__}: {error}). The runs are not "
            "affected. Please report this.",
            500,
        )

    def _message(self, title: str, message: str, status: int, *, back: str = "") -> Response:
        return self._page(
            "message.html", stream="", here="", title=title, message=message,
            back=back or f"{self._base}/", status=status,
        )  # fmt: skip

    def _page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        where = f"State directory {str(self._board.state_dir)!r}"
        html = render(template, base=self._base, form_token=self._form_token, where=where, **values)
        return HTMLResponse(html, status)

    def _events(self, name: object, read: Callable[[], Mapping[str, Region]]) -> EventStream:
        async def read_in_thread() -> Mapping[str, Region]:
            return await self._reader.call(read)

        return EventStream(self._feeds, name, read_in_thread)


def _or_gone(read: Callable[[], Mapping[str, Region]]) -> Mapping[str, Region]:
    """The regions of a watched page, or a notice if its run has been deleted meanwhile."""
    try:
        return read()
    except NotFoundError as error:
        return {"notice": notice(error.message)}


def _words(request: Request) -> str:
    return request.query_params.get("q", "")[:MAX_WORDS]
