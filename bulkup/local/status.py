"""Errors that become a gRPC status."""

from __future__ import annotations

import grpc


class RpcError(Exception):
    """Ends a call with a status; `message` is for people."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)


def unimplemented(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.UNIMPLEMENTED, message)


def aborted() -> RpcError:
    return RpcError(
        grpc.StatusCode.ABORTED,
        "too much contention on these datastore entities. please try again.",
    )


def unavailable(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.UNAVAILABLE, message)
