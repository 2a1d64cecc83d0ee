"""Keys that a user gives a run in place of its query: read from a file, checked and sorted.

A key is written as bulkup prints it: `Key('City', 5)`, or JSON with a `typed_key` (`show
--failed-keys`, with and without --json, and every other line that names an entity).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from bulkup.core.errors import StateError, UsageError
from bulkup.core.limits import LimitError, check_key_to_write
from bulkup.core.model import TargetInfo
from bulkup.core.records import RunInfo
from bulkup.core.typed_key import typed_key
from bulkup.core.visible import visible
from bulkup.datastore.keys import key_bytes, key_text
from bulkup.datastore.messages import KeyPb, Pb
from bulkup.engine.scan import QueryPlan
from bulkup.state.key_list import KEYS_NAME, KeyList
from bulkup.state.kinds import OWN_KINDS

STDIN = "-"

MAX_LINE_CHARS = 1024 * 1024
"""Large enough for a failure, whose line includes its traceback."""

MAX_ARRAY_CHARS = 64 * 1024 * 1024
"""The limit for a file that is one JSON array, which must fit in memory at once. A file with one
key per line may be of any size."""


@dataclass(frozen=True)
class KeySource:
    """Where the keys of a run come from."""

    read: Callable[[QueryPlan, TargetInfo], KeyList]
    """Called with the updater's query and the target. Raises BulkupError."""
    retry_of: str = ""
    """The run whose failed entities these are."""
    settled: frozenset[str] = frozenset()
    """The retries of that run whose outcome is already in its list of failures."""


class BadKeyError(ValueError):
    """What is wrong with a key, as the end of a sentence."""


def keys_from_file(path: str) -> KeySource:
    """The keys in a file, or (`-`) on standard input."""
    name = "standard input" if path == STDIN else repr(path)

    def read(query: QueryPlan, target: TargetInfo) -> KeyList:
        key_list = KeyList.of(_keys_in(path, name, query, target), name)
        if not key_list.facts.count:
            key_list.close()
            raise UsageError(f"{name} has no keys, so there is nothing to run on")
        return key_list

    return KeySource(read)


def keys_kept_in(folder: Path, run_info: RunInfo) -> KeySource:
    """The keys that are stored in an unfinished run's folder."""

    def read(query: QueryPlan, target: TargetInfo) -> KeyList:
        key_list = KeyList.kept_in(folder)
        if key_list is None or key_list.facts.digest != run_info.keys:
            if key_list is not None:
                key_list.close()
            how = "`bulkup run UPDATER --keys-from FILE`"
            if run_info.retry_of:
                how = f"`bulkup retry {run_info.retry_of}`"
            raise StateError(
                f"the list of keys of run {run_info.run_id} is not in its folder any more "
                f"({str(folder / KEYS_NAME)!r}): repeat {how} with the same keys, which resumes "
                "the run"
            )
        return key_list

    return KeySource(read, run_info.retry_of)


def _keys_in(path: str, name: str, query: QueryPlan, target: TargetInfo) -> Iterator[bytes]:
    """Serialized keys. Raises UsageError for the first that is not valid."""
    check = KeyCheck(query, target)
    with _opened(path, name) as file:
        for number, item in _items(file, name):
            try:
                yield check.key(item)
            except BadKeyError as error:
                where = f"{name}, {number}"
                raise UsageError(f"{where}: {error}; nothing was started") from error


@contextmanager
def _opened(path: str, name: str) -> Iterator[TextIO]:
    try:
        is_stdin = path == STDIN
        if is_stdin and sys.stdin is None:  # descriptor 0 may be another file by now
            raise UsageError("cannot read keys from standard input (it is closed)")
        with open(0 if is_stdin else path, encoding="utf-8-sig", closefd=not is_stdin) as file:
            yield file
    except OSError as error:
        raise UsageError(f"cannot read keys from {name} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not text in UTF-8 ({error.reason}); nothing was started"
        ) from error


def _items(file: TextIO, name: str) -> Iterator[tuple[str, Any]]:
    """The position of each item that stands for a key, and the item. Empty lines are skipped."""
    for number in count(1):
        line = file.readline(MAX_LINE_CHARS + 1)
        if not line:
            return
        text, where = line.strip(), f"line {number}"
        if not text:
            continue
        if text.startswith("["):
            yield from _array(text + file.read(MAX_ARRAY_CHARS), name, where)
            return
        if len(line) > MAX_LINE_CHARS:
            raise UsageError(f"{name}, {where}: longer than a key can be; nothing was started")
        if text[0] not in '{"':
            yield where, text
            continue
        try:
            yield where, json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{name}, {where}: not valid JSON ({error})") from error


def _array(text: str, name: str, where: str) -> Iterator[tuple[str, Any]]:
    if len(text) > MAX_ARRAY_CHARS:
        raise UsageError(
            f"{name} is a JSON array of more than {MAX_ARRAY_CHARS >> 20} MiB, which would have to "
            "be in memory at once; write one key per line"
        )
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}, {where}: not valid JSON ({error})") from error
    for number, item in enumerate(items, 1):
        yield f"item {number} of the array", item


class KeyCheck:
    """Converts an item that stands for a key to a serialized key, if the run may work on it."""

    def __init__(self, query: QueryPlan, target: TargetInfo) -> None:
        self._target = target
        self._kinds = frozenset(kind.name for kind in query.pb.kind)

    def key(self, item: Any) -> bytes:
        """The serialized key. `item`: the text of a key, or JSON as bulkup prints it. Raises
        BadKeyError."""
        typed = _typed(item)
        key = key_in(self._target, typed)
        text = key_text(key)
        namespace = key.partition_id.namespace_id
        if namespace != self._target.namespace:
            raise BadKeyError(
                f"{text} is of namespace {_named(namespace)}, but the run is for "
                f"{_named(self._target.namespace)}; give the keys of each namespace to a run with "
                "its --namespace"
            )
        kind = key.path[-1].kind
        if kind in OWN_KINDS:
            raise BadKeyError(f"{text} is of a kind of bulkup's own")
        if self._kinds and kind not in self._kinds:
            raise BadKeyError(
                f"{text} is not of the kind that the updater's query names "
                f"({', '.join(sorted(map(visible, self._kinds)))})"
            )
        try:
            check_key_to_write(key, None, complete=True)
        except LimitError as error:
            raise BadKeyError(
                f"{text} is the key of no entity: {str(error).rstrip('.')}"
            ) from error
        return key_bytes(key)


def _named(namespace: str) -> str:
    return repr(namespace) if namespace else "(default)"


def _typed(item: Any) -> Mapping[str, Any]:
    """The key in the form that `core.typed_key` makes. Raises BadKeyError."""
    if isinstance(item, Mapping):
        if item.get("typed_key") is not None:
            item = item["typed_key"]
        elif "key" in item:
            item = item["key"]
    typed = typed_key(item) if isinstance(item, str) else item
    if isinstance(typed, Mapping) and isinstance(typed.get("path"), list):
        return (
            _from_rest(typed) if any(isinstance(one, Mapping) for one in typed["path"]) else typed
        )
    if isinstance(item, Mapping):
        kind = item.get("type")
        what = f"a line of the type {kind!r}" if isinstance(kind, str) else "a JSON object"
        raise BadKeyError(f"{what} that names no entity (it has no typed_key)")
    shown = item if isinstance(item, str) else json.dumps(item)
    shown = ascii(shown[:80]) + ("..." if len(shown) > 80 else "")
    raise BadKeyError(f"{shown} is not a key; write it as bulkup does, for example Key('City', 5)")


def _from_rest(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """Converts a Key of Datastore's REST API, as in the lossless lines of `bulkup find`. Raises
    BadKeyError."""
    try:
        path = [
            [one["kind"], int(one["id"]) if "id" in one else one.get("name")]
            for one in form["path"]
        ]
        return {"path": path, "namespace": form.get("partitionId", {}).get("namespaceId", "")}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadKeyError("it is not a key of Datastore's REST API") from error


def key_in(target: TargetInfo, typed: Mapping[str, Any]) -> Pb:
    """The Key message on a target, from a key in the form of `core.typed_key`.

    Raises BadKeyError.
    """
    key = KeyPb()
    partition = key.partition_id
    partition.project_id, partition.database_id = target.project, target.database
    namespace = typed.get("namespace") or ""
    try:
        partition.namespace_id = namespace
        for kind, ident in typed["path"]:
            if isinstance(ident, bool):
                raise TypeError("true and false are no ids")
            element = key.path.add(kind=kind)
            if isinstance(ident, str):
                element.name = ident
            elif ident is not None:
                element.id = ident
    except (TypeError, ValueError) as error:
        raise BadKeyError(f"it is not a key ({error})") from error
    if not key.path or key.path[-1].WhichOneof("id_type") is None:
        raise BadKeyError(f"{key_text(key)} is incomplete: it has no id or name")
    return key
