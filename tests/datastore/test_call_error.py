"""What a failed call says about itself."""

from __future__ import annotations

import grpc
import pytest

from bulkup.datastore.call_error import CallError
from bulkup.datastore.retry import RetryPolicy

Code = grpc.StatusCode

OF_THE_CONNECTION = [
    "Received RST_STREAM with error code 2",
    "Stream removed (RST_STREAM (Received RST_STREAM with error code 1))",
    "RST_STREAM closed stream. HTTP/2 error code: INTERNAL_ERROR",
    "stream terminated by RST_STREAM with error code: PROTOCOL_ERROR",
    "Stream removed (GOAWAY received; Error code: 11; Debug Text: too_many_pings)",
    "Received Goaway\nsession_timed_out",
    "GoAway: max_age",
    "Stream removed",
    "Stream removed (Data frame with END_STREAM flag received)",
    "stream terminated",
    "Socket closed",
    "Connection reset by peer",
    "Connection closed with unknown cause",
    "connection lost",
    "Broken pipe",
    "transport is closing",
    "Transport closed",
    "unexpected EOS on DATA frame from server",
    "Received unexpected EOS on empty DATA frame from server",
    "io exception",
    "unexpected EOF",
    "Http2 exception: stream 5 was refused",
    "HTTP/2 error code: ENHANCE_YOUR_CALM",
    "Received http2 header with status: 500",
    "upstream connect error or disconnect/reset before headers. reset reason: overflow",
    "keepalive watchdog timeout",
    "ping timeout",
    "No status received",
    "server is shutting down",
    "invalid content-type: text/html",
    "SSL_ERROR_SSL: bad record mac",
    "Endpoint read failed",
    "Network is unreachable",
]

OF_THE_SERVER = [
    "",
    "internal error",
    "An internal error occurred.",
    "Exception calling application: 'n'",
    "Internal error encountered.",
    "Unexpected error in query planning",
    "the answer is not a Datastore's",
]


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.UNKNOWN])
@pytest.mark.parametrize("details", OF_THE_CONNECTION)
def test_a_broken_stream_is_retried_like_any_outage(code: grpc.StatusCode, details: str) -> None:
    error = CallError("Commit", code, details)
    assert error.worth_another_try
    assert error.maybe_applied
    assert not error.is_doubtful


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.UNKNOWN])
@pytest.mark.parametrize("details", OF_THE_SERVER)
def test_an_internal_error_of_the_server_is_tried_a_few_times(
    code: grpc.StatusCode, details: str
) -> None:
    error = CallError("Commit", code, details)
    assert error.worth_another_try
    assert error.is_doubtful


@pytest.mark.parametrize(
    ("code", "status"),
    [(Code.UNIMPLEMENTED, 404), (Code.PERMISSION_DENIED, 403), (Code.UNAVAILABLE, 502)],
)
def test_a_gateways_answer_is_not_the_datastores(code: grpc.StatusCode, status: int) -> None:
    """A load balancer says 404 while what is behind it is being replaced."""
    error = CallError("Commit", code, f"Received http2 header with status: {status}")
    assert error.worth_another_try
    assert error.maybe_applied
    policy = RetryPolicy(600)
    assert not policy.gives_up(error, left_s=500, doubtful=0, refused=0, contacted=True)
    at_once = policy.gives_up(error, left_s=500, doubtful=0, refused=0, contacted=False)
    assert at_once is (status != 502)


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION])
def test_the_words_of_a_refusal_do_not_make_it_an_outage(code: grpc.StatusCode) -> None:
    error = CallError("Commit", code, "The value of property connection closed is too long")
    assert not error.worth_another_try
    assert not error.maybe_applied
