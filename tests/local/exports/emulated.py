"""Exports that Google's emulators write and read, and what they serve."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from bulkup.local import messages as m
from bulkup.local.exports.metadata import OVERALL_SUFFIX
from tests.local.exports.values import NAMESPACES
from tests.local.rpc import Rpc

TIMEOUT_S = 120
_AT_ONCE = 50
_BATCH_BYTES = 2 << 20


def store(host: str, project: str, entities: Iterable[Any]) -> None:
    with closing(Rpc(host, project)) as rpc:
        batch: list[Any] = []
        for entity in entities:
            if batch and (
                len(batch) == _AT_ONCE
                or sum(one.ByteSize() for one in batch) + entity.ByteSize() > _BATCH_BYTES
            ):
                rpc.put(*batch)
                batch = []
            batch.append(entity)
        if batch:
            rpc.put(*batch)


def served(host: str, project: str, namespaces: Iterable[str] = NAMESPACES) -> list[Any]:
    """All entities of a project. FS answers no query over all kinds of all namespaces."""
    found = []
    for namespace in namespaces:
        with closing(Rpc(host, project, namespace)) as rpc:
            query = m.Query()
            while True:
                batch = rpc.run(query)
                if not batch.entity_results:
                    break
                found += [result.entity for result in batch.entity_results]
                query.start_cursor = batch.end_cursor
    return found


def export(server: str, host: str, project: str, folder: Path) -> None:
    """Have an emulator export a project into a new folder."""
    if server == "LF":
        _post(host, f"/v1/projects/{project}:export", {"output_url_prefix": str(folder)})
        return
    folder.mkdir()
    body = {"database": f"projects/{project}/databases/", "export_directory": str(folder)}
    _post(host, f"/emulator/v1/projects/{project}:export", body)


def load(server: str, host: str, project: str, folder: Path) -> None:
    """Have an emulator import an export."""
    (file,) = folder.glob("*" + OVERALL_SUFFIX)
    if server == "LF":
        _post(host, f"/v1/projects/{project}:import", {"input_url": str(file)})
        return
    body = {"database": f"projects/{project}/databases/", "export_directory": str(file)}
    _post(host, f"/emulator/v1/projects/{project}:import", body)


def _post(host: str, path: str, body: dict[str, str]) -> None:
    request = urllib.request.Request(
        f"http://{host}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{path}: {error.code} {error.read()!r}") from error
