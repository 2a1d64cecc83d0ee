"""A failed call, and what its status code means.

The code answers two questions: can another attempt help, and (for a commit) may the server have
applied it anyway? Sending the same bytes again is safe either way: a read has no effect, and each
commit of bulkup inserts a marker that makes any copy of the commit fail.
"""

from __future__ import annotations

import re

from grpc import StatusCode

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""gRPC refuses a larger answer as soon as it sees its length; then fewer entities are requested.
Any single entity fits, even on an emulator that accepts entities of 4 MiB."""

EMULATOR_MESSAGE_BYTES = 4 * 1024 * 1024
"""The emulators refuse larger requests; one of them does so by resetting the stream (CANCELLED)."""

_TRANSIENT = {
    StatusCode.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.ABORTED,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.CANCELLED,
    StatusCode.UNAUTHENTICATED,  # a few times only; see `RetryPolicy.gives_up`
}
_INTERNAL = {StatusCode.INTERNAL, StatusCode.UNKNOWN}

_OF_THE_CONNECTION = re.compile(
    r"""rst_stream | go_?away | http/?2 | \bhttp\b | stream\ (removed|terminated|timeout)
    | (socket|connection|transport|channel|stream|endpoint|session|peer)\b.{0,20}
      \b(clos|reset|drop|lost|terminat|abort|refused|timed\ out|shut|fail|broken|gone|error)
    | reset\ (by|before) | broken\ pipe | \b(eof|eos)\b | end\ of\ (file|stream)
    | keep-?alive | ping\ timeout | too_many_pings | \bupstream\b | shutting\ down
    | no\ status | missing\ (grpc-)?status | (unexpected|invalid|bad)\ (content-type|frame|trailer)
    | \b(ssl|tls)(\b|_) | i/?o\ ?(exception|error) | network\ is | no\ route | unreachable""",
    re.IGNORECASE | re.VERBOSE,
)
"""What gRPC, its servers and proxies report as INTERNAL or UNKNOWN when a connection or one of its
streams has ended. gRPC for Python does not say whether a status came from the server itself."""

_RECEIVED_TOO_MUCH = re.compile(
    r"(CLIENT: )?received message larger than max \((\d+) vs\.? (\d+)\)", re.I
)
"""gRPC's message on our side, with the size of the answer and the limit."""

_HTTP_ANSWER = "Received http2 header with status"

_NOT_APPLIED = {StatusCode.ABORTED, StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAUTHENTICATED}
"""The retryable codes that guarantee that nothing was written."""


class CallError(Exception):
    """A call that ended with a status other than OK. Users see what `rpc_errors.explain` says."""

    def __init__(self, call: str, code: StatusCode, details: str, request_bytes: int = 0) -> None:
        super().__init__(f"{call}: {code.name}: {details}")
        self.call = call
        self.code = code
        self.details = details
        self.request_bytes = request_bytes
        self.unexplained = False
        """A commit was repeatedly refused as a conflict, although no entity had changed."""

    @classmethod
    def named(cls, call: str, code_name: str, details: str, request_bytes: int) -> CallError:
        """Rebuild an error received through a pipe, which carries only the name of its code."""
        return cls(call, StatusCode[code_name], details, request_bytes)

    @property
    def code_name(self) -> str:
        return str(self.code.name)

    @property
    def too_large(self) -> bool:
        """The request is too large, so sending it again cannot help."""
        if self.code is StatusCode.RESOURCE_EXHAUSTED:
            return "maximum size" in self.details or "larger than max" in self.details
        if self.code is not StatusCode.CANCELLED or self.is_channel_closed:
            return False
        return self.request_bytes >= EMULATOR_MESSAGE_BYTES

    @property
    def is_channel_closed(self) -> bool:
        """We closed the channel that the call was on, because another call found it silent."""
        return self.code is StatusCode.CANCELLED and "channel closed" in self.details.lower()

    def fewer(self, asked: int) -> int:
        """How many entities to request instead of `asked`, whose answer was too large to receive.
        0 if this error says something else, or if only one was requested."""
        if self.code is not StatusCode.RESOURCE_EXHAUSTED or asked <= 1:
            return 0
        sizes = _RECEIVED_TOO_MUCH.search(self.details)
        if sizes is None:
            return 0
        size, limit = int(sizes[2]), int(sizes[3])
        if not sizes[1] and limit != MAX_ANSWER_BYTES:
            return 0  # a server says the same about a request that is too large
        # Half of what would fit if all entities had the same size, because sizes vary.
        return max(1, min(asked // 2, asked * limit // (2 * size)))

    @property
    def worth_another_try(self) -> bool:
        if self.code in _TRANSIENT or self.code in _INTERNAL:
            return not self.too_large
        return self.is_http_answer

    @property
    def is_http_answer(self) -> bool:
        """A web server, gateway or proxy answered instead of the Datastore behind it. The code is
        gRPC's translation of the HTTP status: 404 becomes UNIMPLEMENTED."""
        return _HTTP_ANSWER in self.details

    @property
    def is_doubtful(self) -> bool:
        """INTERNAL or UNKNOWN from the server itself, which may be transient or final."""
        return self.code in _INTERNAL and not _OF_THE_CONNECTION.search(self.details)

    @property
    def maybe_applied(self) -> bool:
        """For a commit: the server may have applied it, or may still do so."""
        return self.worth_another_try and self.code not in _NOT_APPLIED

    @property
    def is_conflict(self) -> bool:
        """A guard refused: the entity has changed or has been deleted since it was read."""
        return self.code in (StatusCode.FAILED_PRECONDITION, StatusCode.NOT_FOUND)

    @property
    def claims_conflict(self) -> bool:
        """The server reports a conflict. `datastore/refusals.py` checks whether there is one."""
        return self.is_conflict or self.already_exists

    @property
    def already_exists(self) -> bool:
        """An insert found its key taken. If the key is a marker's, the commit was applied."""
        return self.code is StatusCode.ALREADY_EXISTS

    @property
    def not_found(self) -> bool:
        return self.code is StatusCode.NOT_FOUND

    @property
    def is_invalid(self) -> bool:
        """INVALID_ARGUMENT: the server rejects something in this very request."""
        return self.code is StatusCode.INVALID_ARGUMENT

    @property
    def blames_a_write(self) -> bool:
        """The server refuses something that the commit writes; part of the commit may succeed."""
        return self.is_invalid or self.already_exists or self.is_conflict or self.too_large

    @property
    def needs_index(self) -> bool:
        return self.code is StatusCode.FAILED_PRECONDITION and "index" in self.details.lower()

    @property
    def cannot_run_query(self) -> bool:
        """The server lacks an operator, an order or an index that the query needs."""
        return self.is_unsupported or self.code is StatusCode.FAILED_PRECONDITION

    @property
    def is_unsupported(self) -> bool:
        """The server does not support such a request; one emulator answers INVALID_ARGUMENT."""
        return self.code in (StatusCode.INVALID_ARGUMENT, StatusCode.UNIMPLEMENTED)

    @property
    def lacks_permission(self) -> bool:
        """The server refuses every request from this account, whatever the request contains."""
        return self.code in (StatusCode.PERMISSION_DENIED, StatusCode.UNAUTHENTICATED)

    @property
    def is_unauthenticated(self) -> bool:
        """The server does not accept our token: it was revoked, or a clock is wrong."""
        return self.code is StatusCode.UNAUTHENTICATED

    @property
    def lacks_credentials(self) -> bool:
        """No token could be obtained, permanently or for now. gRPC reports UNAVAILABLE."""
        return "metadata from plugin failed" in self.details
