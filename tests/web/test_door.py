"""Nobody but the browser that opened the link gets in, and nothing changes without a form."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from bulkup.web.door import COOKIE, MAX_BODY_BYTES
from tests.web.conftest import ORIGIN, PORT, Site


def test_no_page_opens_without_the_link(site: Site) -> None:
    for path in ("/", "/favicon.ico", f"{site.base}/", f"{site.base}/static/live.js"):
        answer = site.client.get(path)
        assert answer.status_code == 403
        assert "bulkup serve" in answer.text
    for token in ("", "x", site.link[-10:], "é"):
        assert site.client.get(f"{site.base}/", params={"token": token}).status_code == 403


def test_the_link_opens_one_browser_and_no_second_one(site: Site) -> None:
    answer = site.client.get(site.link)
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 200
    assert re.search(r"HttpOnly", cookie)
    assert re.search(r"SameSite=strict", cookie, re.I)
    assert f"Path={site.base}" in cookie
    assert site.client.get(f"{site.base}/").status_code == 200
    again = site.client.get(site.link)
    assert (again.status_code, again.headers["location"]) == (303, f"{site.base}/")

    site.client.cookies.clear()
    refused = site.client.get(site.link)
    assert refused.status_code == 403
    assert "used before" in refused.text
    assert "set-cookie" not in refused.headers
    assert site.client.get(f"{site.base}/").status_code == 403


def test_a_wrong_cookie_opens_nothing(site: Site) -> None:
    for value in ("x", "", '"', "\\303\\251"):
        headers = {"cookie": f"{COOKIE}={value}"}
        assert site.client.get(f"{site.base}/", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "host",
    ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}",
     f"127.0.0.1:{PORT}.evil.example", f"127.0.0.1.evil.example:{PORT}", ""],
)  # fmt: skip
def test_a_host_name_that_was_pointed_here_is_refused(site: Site, host: str) -> None:
    """DNS rebinding; not even the link works."""
    assert site.client.get(site.link, headers={"host": host}).status_code == 403
    site.enter()
    assert site.client.get(f"{site.base}/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", f"http://localhost:{PORT}", ""])
def test_requests_of_other_sites_are_refused(site: Site, origin: str) -> None:
    site.enter()
    headers = {"origin": origin}
    assert site.client.get(f"{site.base}/", headers=headers).status_code == 403
    form = {"form_token": site.keys.form_token}
    posted = site.client.post(f"{site.base}/", headers=headers, data=form)
    assert posted.status_code == 403


def test_a_change_needs_an_origin_and_the_form_token(site: Site) -> None:
    site.enter()
    path, good = f"{site.base}/runs/x/pause", {"form_token": site.keys.form_token}
    assert site.client.post(path, data=good).status_code == 403  # no Origin
    for form in ({}, {"form_token": ""}, {"form_token": "x"}, {"form_token": "é"}):
        refused = site.client.post(path, data=form, headers={"origin": ORIGIN})
        assert refused.status_code in (403, 415), form
    query = {"form_token": site.keys.form_token}
    assert site.client.post(path, params=query, headers={"origin": ORIGIN}).status_code == 415


def test_methods_other_than_get_and_post_are_refused(site: Site) -> None:
    assert site.client.head(site.link).status_code == 405
    site.enter()  # which has not used up the link
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        assert site.client.request(method, f"{site.base}/").status_code == 405


def test_large_bodies_are_refused(site: Site) -> None:
    site.enter()
    headers = {"origin": ORIGIN, "content-type": "application/x-www-form-urlencoded"}
    large = b"form_token=" + b"x" * MAX_BODY_BYTES
    assert site.client.post(f"{site.base}/", content=large, headers=headers).status_code == 413

    async def chunks() -> AsyncIterator[bytes]:  # without a Content-Length
        for _ in range(20):
            yield b"a" * 1000

    assert site.client.post(f"{site.base}/", content=chunks(), headers=headers).status_code == 413
    many = b"&".join(b"a=1" for _ in range(100))
    assert site.client.post(f"{site.base}/", content=many, headers=headers).status_code == 400
    lie = {**headers, "content-length": "-1"}
    assert site.client.post(f"{site.base}/", content=b"a=1", headers=lie).status_code == 413


@pytest.mark.parametrize("entered", [True, False])
def test_every_answer_has_the_headers_that_keep_a_page_apart(site: Site, entered: bool) -> None:
    if entered:
        site.enter()
    for path in ("/", f"{site.base}/", f"{site.base}/static/live.js", f"{site.base}/nowhere"):
        headers = site.client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in
                      headers["content-security-policy"].split(";"))  # fmt: skip
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "run_id", ["..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "x" * 3000, "~", "a%2Fb", "*"]
)
def test_what_is_not_a_run_id_reaches_no_file(site: Site, run_id: str) -> None:
    site.enter()
    (site.state_dir.parent / "checkpoint.sqlite").write_text("secret")
    for page in ("runs", "events/runs", "static"):
        answer = site.client.get(f"{site.base}/{page}/{run_id}")
        assert answer.status_code in (303, 307, 403, 404, 405), page
        assert "secret" not in answer.text


def test_an_address_with_many_fields_is_refused(site: Site) -> None:
    assert site.client.get(f"{site.base}/?" + "&".join("a=1" * 100)).status_code in (400, 403)
