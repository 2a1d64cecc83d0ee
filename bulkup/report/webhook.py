"""The report as a POST request, for chats and for programs.

A problem becomes a message, never an exception: a finished run stays finished. Waiting is bounded,
redirects to other hosts are not followed, and no message shows more of the address than its host.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from bulkup.core.events import Report
from bulkup.core.version import __version__
from bulkup.core.webhook import Webhook
from bulkup.report.json_fields import namespaces_fields, summary_fields
from bulkup.report.json_lines import VERSION, finite
from bulkup.report.printer import Delivery
from bulkup.report.slack import PLAIN, chat_text
from bulkup.report.summary_model import Summary
from bulkup.report.text import clean, duration, iso

if TYPE_CHECKING:
    from requests import Response, Session

ATTEMPTS = 5
STEP_TIMEOUT_S = 10.0
"""To connect, and for the beginning of each answer."""
TOTAL_TIMEOUT_S = 60.0
"""For everything, with all attempts and the pauses between them."""
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 15.0
"""Even if the server asks for more (`Retry-After`)."""
MAX_REDIRECTS = 3
_SAME_REQUEST = (307, 308)
"""Redirects that keep the method. After any other, a POST would become a GET."""
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})
_REASON = re.compile(r"[a-z][a-z_]{2,40}")
"""Slack's error codes: `no_service`, `invalid_token`."""


class _Again(Exception):
    """The attempt has failed, but another one may succeed."""

    def __init__(self, why: str, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.after_s = after_s


class _Refused(Exception):
    """The attempt has failed, and no other one would help."""


def payload(report: Report, summary: Summary) -> dict[str, Any]:
    """What is posted: the fields of the line `summary` (or `group`) of --json, and `text`.

    Without tracebacks, which hold the user's code, and without log lines: they may be large.
    """
    is_group = bool(report.spaces)
    fields = {**summary_fields(report), **(namespaces_fields(report) if is_group else {})}
    for failure in (*fields["failures"], *fields["failure_groups"]):
        failure["traceback"] = ""
    fields["log_lines"] = []
    head = {
        "text": chat_text(summary),
        **PLAIN,
        "type": "group" if is_group else "summary",
        "version": VERSION,
        "time": iso(report.ended),
    }
    content: dict[str, Any] = finite({**head, **fields})
    return content


def post_report(
    report: Report,
    summary: Summary,
    to: Webhook,
    *,
    step_timeout_s: float = STEP_TIMEOUT_S,
    total_timeout_s: float = TOTAL_TIMEOUT_S,
    first_pause_s: float = FIRST_PAUSE_S,
) -> Delivery:
    """Post the report; returns within `total_timeout_s`, with a message for the user.

    Never raises because of the network, the server or a Ctrl-C. If an answer was lost, the report
    may arrive twice.
    """
    outcome: list[Delivery] = []
    is_over = threading.Event()

    def post() -> None:
        try:
            body = json.dumps(payload(report, summary), allow_nan=False).encode()
            _post_with_retries(body, to, step_timeout_s, first_pause_s, is_over.wait)
            outcome.append(Delivery("webhook", True, clean(f"Report posted to {to}.")))
        except (_Again, _Refused) as error:
            outcome.append(_unsent(to, str(error)))
        except Exception as error:  # a bug, and reported as one; the run is finished anyway
            # Only its type: the message may hold the address.
            outcome.append(_unsent(to, f"bulkup has a bug, {type(error).__name__}"))

    # In a thread: a name lookup has no timeout, and a socket's timeout restarts with each byte.
    worker = threading.Thread(target=post, name="bulkup-webhook", daemon=True)
    try:
        worker.start()
        worker.join(total_timeout_s)
    except KeyboardInterrupt:
        return outcome[0] if outcome else _unsent(to, "interrupted; it may still arrive")
    finally:
        is_over.set()
    if not outcome:
        return _unsent(to, f"not done after {duration(total_timeout_s)}; it may still arrive")
    return outcome[0]


def _post_with_retries(
    body: bytes,
    to: Webhook,
    timeout_s: float,
    first_pause_s: float,
    pause: Callable[[float], Any],
) -> None:
    """Raises _Again, _Refused."""
    import requests
    from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
    from tenacity import wait_random_exponential as growing

    growth = growing(multiplier=first_pause_s, max=MAX_PAUSE_S)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.after_s if isinstance(error, _Again) else 0.0
        return max(growth(state), min(asked, MAX_PAUSE_S))

    with requests.Session() as session:
        # Otherwise requests looks for a password in ~/.netrc and sends it along.
        session.auth = (to.user, to.password) if to.user else _no_password
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS), wait=wait, sleep=pause,
            retry=retry_if_exception_type(_Again), reraise=True,
        )  # fmt: skip
        retrying(_post, session, body, to, timeout_s)


def _no_password(request: Any) -> Any:
    return request


def _post(session: Session, body: bytes, to: Webhook, timeout_s: float) -> None:
    """One attempt. Raises _Again, _Refused."""
    import requests

    url = to.url
    for _ in range(MAX_REDIRECTS + 1):
        try:
            answer = session.post(
                url,
                data=body,
                headers={
                    "Content-Type": "application/json",
                    "User-Agent": f"bulkup/{__version__}",
                },
                timeout=timeout_s,
                allow_redirects=False,
                stream=True,  # the server chooses how long its answer is
            )
        except requests.exceptions.SSLError:
            raise _Refused("its certificate is not valid, or it speaks no TLS") from None
        except requests.exceptions.Timeout:
            raise _Again(f"no answer within {duration(timeout_s)}") from None
        except requests.exceptions.ProxyError:
            raise _Again("the proxy (HTTPS_PROXY) does not let it through") from None
        except requests.exceptions.ConnectionError:
            raise _Again("no connection, or it was closed") from None
        except (requests.exceptions.RequestException, ValueError) as error:
            raise _Refused(f"it cannot be asked ({type(error).__name__})") from None
        with answer:
            following = _judge(answer, url)
        if following is None:
            return
        url = following
    raise _Refused("it redirects again and again")


def _judge(answer: Response, url: str) -> str | None:
    """None if the report has arrived, otherwise the address to post it to. Raises _Again,
    _Refused."""
    status = answer.status_code
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        following = _same_place(url, answer.headers.get("Location", ""))
        if status not in _SAME_REQUEST or following is None:
            raise _Refused(f"it redirects elsewhere ({status}), which is not followed")
        return following
    why = f"it answered {status}{_reason(answer)}"
    if status in _WORTH_ANOTHER_TRY:
        raise _Again(why, _retry_after_s(answer.headers))
    raise _Refused(why)


def _same_place(url: str, location: str) -> str | None:
    """Where a redirect leads if that is on the same host; None if it is elsewhere or not valid."""
    try:
        following = urljoin(url, location)
        here, there = urlsplit(url), urlsplit(following)
        is_same = (here.scheme, here.hostname, here.port) == (
            there.scheme,
            there.hostname,
            there.port,
        )
    except ValueError:  # not a valid address
        return None
    return following if is_same and "@" not in there.netloc else None


def _reason(answer: Response) -> str:
    """The server's error code, if it is a single word; anything longer might repeat the address."""
    import requests

    try:
        begins = next(answer.iter_content(200), b"")
    except (requests.exceptions.RequestException, ValueError):
        return ""
    word = begins.decode("ascii", "replace").strip()
    return f" ({word})" if _REASON.fullmatch(word) else ""


def _retry_after_s(headers: Mapping[str, str]) -> float:
    seconds = headers.get("Retry-After", "")
    return float(seconds) if seconds.isascii() and seconds.isdigit() else 0.0


def _unsent(to: Webhook, why: str) -> Delivery:
    return Delivery("webhook", False, clean(f"The report could not be posted to {to}: {why}."))
