"""A file that another process serves, read through that process."""

from __future__ import annotations

import os
from typing import Any

import grpc

from bulkup.core.errors import StateError
from bulkup.local.access import ReadableFile
from bulkup.local.encoding import Partition
from bulkup.local.service import SERVICE
from bulkup.local.sharing import ServedBy
from bulkup.local.status import RpcError

_TIMEOUT_S = 60
"""Timeout of one call, which reads at most one page."""


class ServedFile(ReadableFile):
    """One partition of the file, as it is when the reading begins; a context manager.

    Raises UsageError when the partition is not valid, StateError when the process ends meanwhile.
    """

    is_shared = True

    def __init__(self, path: str | os.PathLike[str], place: Partition, served: ServedBy) -> None:
        super().__init__(place)
        self._path = os.fspath(path)
        self._served = served
        self._channel = grpc.insecure_channel(
            served.host,
            options=[("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)],
        )
        self._check_partition()

    def close(self) -> None:
        self._channel.close()

    def _answer(self, method: str, request: Any) -> bytes:
        call: Any = self._channel.unary_unary(f"/{SERVICE}/{method}")
        try:
            return bytes(call(request.SerializeToString(), timeout=_TIMEOUT_S))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise RpcError(error.code(), error.details() or "") from error
            raise StateError(
                f"process {self._served.pid}, which serves {self._path}, no longer answers "
                f"({error.details()}); run the command again"
            ) from error
