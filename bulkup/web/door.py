"""Access control: the one place where a request is let through to a page or refused.

The server listens on the loopback interface, which every process and every web page that the user
has open can reach. So these are kept out, in this order:

- A page that made its own host name resolve to 127.0.0.1 (DNS rebinding): the Host is checked.
- Another site's page that makes the browser send requests here: the Origin is checked, the cookie
  is `SameSite`, and a change is a POST that holds the form token, which only bulkup's own pages
  know.
- Another user of this machine: all pages need a cookie, which is issued once, for the token in
  the link that `bulkup serve` prints. Cookies are not bound to a port, so a browser also sends
  them to other servers on 127.0.0.1; the cookie's path, which nobody can guess, prevents that.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HOST = "127.0.0.1"
COOKIE = "bulkup_session"
MAX_BODY_BYTES = 8 * 1024
"""Enough: a form has a few short fields."""
MAX_FIELDS = 20
_FORM = "application/x-www-form-urlencoded"

FORM_TOKEN = "form_token"  # noqa: S105 - the name of a field
"""The hidden field of every form."""

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: browsers would then send `Origin: null` with every form.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
"""Sent with every response, including refusals."""


class Keys:
    """The secrets of one server. None of them is stored anywhere."""

    def __init__(self) -> None:
        self.base = f"/{secrets.token_urlsafe(9)}"
        """All pages are below this path."""
        self.form_token = secrets.token_urlsafe(24)
        self._token: str | None = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)

    def url(self, port: int) -> str:
        """The link that opens the pages in one browser."""
        return f"http://{HOST}:{port}{self.base}/?token={self._token or ''}"

    def redeem(self, token: str) -> str | None:
        """The session for the one-time token; None if the token is wrong or was used before."""
        if self._token is None or not _same(token, self._token):
            return None
        self._token = None
        return self._session

    def knows(self, session: str) -> bool:
        return _same(session, self._session)


class Refused(Exception):
    """Refuses a request with this response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = PlainTextResponse(f"{message}\n", status)


class Door:
    """ASGI middleware around the pages. Passes a form on in `scope["form"]`, parsed and checked."""

    def __init__(self, app: App, keys: Keys, port: int) -> None:
        self._app = app
        self._keys = keys
        self._hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        if port == 80:  # browsers leave it out
            self._hosts |= {HOST, "localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        if scope["type"] != "http":  # the server accepts nothing else
            return
        answer: App
        try:
            answer = await self._admit(scope, receive)
        except Refused as refused:
            answer = refused.response
        await answer(scope, receive, send_with_headers)

    async def _admit(self, scope: Scope, receive: Receive) -> App:
        headers = Headers(scope=scope)
        self._check_source(scope["method"], headers)
        path: str = scope["path"]
        inside = path.startswith(f"{self._keys.base}/")
        is_known = inside and self._keys.knows(_session_of(headers))
        if path == f"{self._keys.base}/" and scope["method"] == "GET":
            token = _token_in(scope["query_string"])
            if token:
                return self._enter(token, is_known)
        if not is_known:
            raise Refused(
                403,
                "This page opens only in the browser that opened the link which `bulkup serve` "
                "printed. A link works once; for another one, end bulkup serve and start it again.",
            )
        if scope["method"] == "POST":
            scope["form"] = await self._form(headers, receive)
        return self._app

    def _check_source(self, method: str, headers: Headers) -> None:
        if method not in ("GET", "POST"):
            raise Refused(405, f"{method} is not supported.")
        if len(headers.getlist("host")) != 1 or headers["host"].lower() not in self._hosts:
            raise Refused(403, "The Host header of this request is not that of bulkup serve.")
        origins = headers.getlist("origin")
        if any(origin.lower() != f"http://{headers['host'].lower()}" for origin in origins):
            raise Refused(403, "This request comes from another site.")
        if method == "POST" and not origins:
            raise Refused(403, "A change needs an Origin header, which every browser sends.")

    def _enter(self, token: str, is_known: bool) -> Response:
        if is_known:
            return RedirectResponse(f"{self._keys.base}/", 303)
        session = self._keys.redeem(token)
        if session is None:
            raise Refused(
                403,
                "This link was used before, or belongs to another server. End bulkup serve and "
                "start it again for a new one.",
            )
        # A page instead of a redirect: after a click on another site, a browser does not send a
        # strict cookie until a page of this site requests another one.
        response = HTMLResponse(_WELCOME.format(base=self._keys.base))
        response.set_cookie(COOKIE, session, path=self._keys.base, httponly=True, samesite="strict")
        return response

    async def _form(self, headers: Headers, receive: Receive) -> dict[str, str]:
        """The fields of a form that holds the form token. Raises Refused."""
        if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
            raise Refused(415, "Only forms are accepted.")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY_BYTES:
            raise Refused(413, "The form is too large.")
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "The form did not arrive.")
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                raise Refused(413, "The form is too large.")
            more = message.get("more_body", False)
        try:
            fields = dict(parse_qsl(body.decode(), True, True, max_num_fields=MAX_FIELDS))
        except ValueError:
            raise Refused(400, "The form is not valid.") from None
        if not _same(fields.pop(FORM_TOKEN, ""), self._keys.form_token):
            raise Refused(403, "The form is not from a page of this server; reload the page.")
        return fields


def _token_in(query: bytes) -> str:
    try:
        return dict(parse_qsl(query.decode("latin-1"), max_num_fields=MAX_FIELDS)).get("token", "")
    except ValueError:
        raise Refused(400, "The address is not valid.") from None


def _session_of(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), secret.encode())


_WELCOME = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>bulkup</title><link rel="icon" href="data:,">
<meta http-equiv="refresh" content="0; url={base}/"></head>
<body><p><a href="{base}/">Continue to bulkup</a></p></body></html>
"""
