"""What all calls share: parsing requests, basic checks, and turning errors into statuses."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from bulkup.local.limits import check_project
from bulkup.local.status import RpcError, invalid

_log = logging.getLogger(__name__)

Call = Callable[[bytes], bytes]
"""Takes a serialized request, returns a serialized response."""


def parse(message: Any, raw: bytes) -> Any:
    """Parse a request of the class `message`. Raises INVALID_ARGUMENT if it is not valid."""
    try:
        request = message.FromString(raw)
    except DecodeError as error:
        raise invalid("Error parsing protocol message.") from error
    if not request.project_id:
        raise invalid("The request must name a project_id.")
    check_project(request.project_id)
    if request.database_id == "(default)":
        raise invalid("The default database is named by an empty database_id, not '(default)'.")
    return request


def guarded(call: Call) -> Call:
    """Wrap a call so that it raises only RpcError. Unexpected exceptions are logged and become
    INTERNAL."""

    def answer(raw: bytes) -> bytes:
        try:
            return call(raw)
        except RpcError:
            raise
        except sqlite3.Error as error:
            raise _storage_failure(error) from error
        except Exception as error:
            _log.exception("%s failed", call.__name__)
            raise RpcError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}") from error

    return answer


def _storage_failure(error: sqlite3.Error) -> RpcError:
    text = str(error)
    if "full" in text:
        return RpcError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "The disk is full. Nothing of this request was written; make room and try again.",
        )
    _log.error("SQLite failed: %s", text)
    if "malformed" in text or "not a database" in text:
        return RpcError(
            grpc.StatusCode.DATA_LOSS, f"The file of the embedded Datastore is damaged: {text}"
        )
    return RpcError(
        grpc.StatusCode.INTERNAL, f"The file of the embedded Datastore cannot be used: {text}"
    )
