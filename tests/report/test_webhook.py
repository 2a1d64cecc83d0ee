"""Reports that are posted to real servers: willing, failing, silent, redirecting and absent."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bulkup.core.errors import UsageError
from bulkup.core.webhook import webhook
from bulkup.report import Delivery, post_report, summarize
from bulkup.report.json_lines import schema
from bulkup.report.slack import MAX_TEXT_CHARS
from bulkup.report.webhook import payload
from tests.report.hooks import OK, SECRET, Start, hooks
from tests.report.samples import hostile_report, report, with_failures


@pytest.fixture
def start() -> Iterator[Start]:
    with hooks() as start:
        yield start


def post(url: str, what: Any = None, **options: Any) -> Delivery:
    what = what or report()
    options = {"first_pause_s": 0.001, "step_timeout_s": 10.0, **options}
    delivery = post_report(what, summarize(what), webhook(url), **options)
    assert delivery.channel == "webhook"
    assert SECRET not in delivery.message
    return delivery


def test_the_report_arrives_as_json_with_text_for_slack(start: Start) -> None:
    hook = start(OK)
    delivery = post(hook.url, with_failures(3, 1))
    assert delivery == Delivery(
        "webhook", True, f"Report posted to http://127.0.0.1:{hook.port}/…."
    )
    ((path, headers, body),) = hook.got
    assert path.endswith(f"/{SECRET}?token={SECRET}")
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("bulkup/")
    assert body["text"].startswith("bulkup: AddFullName: Finished")
    assert body["mrkdwn"] is False
    assert (body["type"], body["version"], body["exit_code"]) == ("summary", 1, 3)
    assert body["counts"]["failed"] == 3
    assert body["failures"][0]["traceback"] == ""
    jsonschema.validate(body, schema())


def test_what_is_wrong_for_a_while_is_tried_again(start: Start) -> None:
    hook = start((503, {}, b""), (429, {"Retry-After": "0"}, b""), OK)
    assert post(hook.url).ok
    assert len(hook.got) == 3


def test_a_server_that_keeps_failing_is_given_up(start: Start) -> None:
    hook = start((500, {}, b"<html>" + SECRET.encode()))
    delivery = post(hook.url)
    assert not delivery.ok
    assert delivery.message.endswith("it answered 500.")
    assert len(hook.got) == 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no_service", " (no_service)"), (b"\x1b[2J no", ""), (SECRET.encode(), ""), (b"", "")],
)
def test_a_refusal_is_not_tried_again_and_says_why(
    start: Start, content: bytes, reason: str
) -> None:
    hook = start((404, {}, content))
    assert post(hook.url).message.endswith(f"it answered 404{reason}.")
    assert len(hook.got) == 1


def test_a_server_that_hangs_costs_bounded_time(start: Start) -> None:
    hook = start(None)
    assert "no answer within 0.1 s" in post(hook.url, step_timeout_s=0.05).message
    assert len(hook.got) == 5
    assert "not done after 0.2 s; it may still" in post(hook.url, total_timeout_s=0.2).message


def test_a_redirect_to_another_host_is_not_followed(start: Start) -> None:
    other = start(OK)
    for place in (f"http://127.0.0.1:{other.port}/", "//evil.example/", "http://a@b/"):
        hook = start((307, {"Location": place}, b""))
        delivery = post(hook.url)
        assert delivery.message.endswith("it redirects elsewhere (307), which is not followed.")
        assert len(hook.got) == 1
    assert not post(start((307, {"Location": "http://["}, b"")).url).ok
    hook = start((302, {"Location": "/elsewhere"}, b""))
    assert "(302)" in post(hook.url).message
    assert not other.got


def test_a_redirect_on_the_same_host_keeps_the_request(start: Start) -> None:
    hook = start((308, {"Location": "/new"}, b""), OK)
    assert post(hook.url).ok
    assert [path for path, _, _ in hook.got][1:] == ["/new"]
    assert hook.got[0][2] == hook.got[1][2]
    circle = start((307, {"Location": "/again"}, b""))
    assert "redirects again and again" in post(circle.url).message


def test_no_server_and_no_such_host(start: Start) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "no connection" in post(f"http://127.0.0.1:{port}/{SECRET}").message
    hook = start(OK)  # speaks no TLS
    assert not post(hook.url.replace("http:", "https:")).ok


def test_a_password_in_the_address_is_sent_and_none_from_netrc(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    hook = start(OK)
    assert post(hook.url).ok
    assert "Authorization" not in hook.got[0][1]
    delivery = post(hook.url.replace("//", "//me:hunter2@"))
    assert delivery.ok
    assert "hunter2" not in delivery.message
    assert hook.got[1][1]["Authorization"].startswith("Basic ")


def test_hostile_strings_call_nobody_and_link_nowhere() -> None:
    for bad in ("<!channel>", "<http://evil|x>", "<script>", "&lt;!here&gt;"):
        what = hostile_report(reason=bad, updater=bad, next_command=bad)
        text = payload(what, summarize(what))["text"]
        assert not {"<", ">"} & {*text}
        assert "&amp;lt;!here" in text or "&lt;" in text
    content = payload(hostile_report(), summarize(hostile_report()))
    assert content["text"].replace("\n", "").isprintable()
    assert json.dumps(content, allow_nan=False)
    long = hostile_report(reason="x" * 100_000)
    assert len(payload(long, summarize(long))["text"]) < 2 * MAX_TEXT_CHARS


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.slack.com/x", "ftp://host/x", "file:///etc/passwd", "https:///x",
        "javascript:alert(1)", "http://ho st/", "http://host/\nHost: evil", "http://host:99999/",
        "http://[::1", "http://host/<x>", "https://h/" + "x" * 5000, "http://h\x00/",
    ],
)  # fmt: skip
def test_other_addresses_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        webhook(url + SECRET)
    assert SECRET not in caught.value.message


def test_an_address_prints_as_its_host() -> None:
    hook = webhook(f"https://me:{SECRET}@hooks.example.com/{SECRET}?{SECRET}#{SECRET}")
    assert str(hook) == "https://hooks.example.com/…"
    assert SECRET not in repr(hook)
