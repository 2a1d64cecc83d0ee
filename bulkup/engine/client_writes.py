"""What handler calls write through their client, in addition to what they put and delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bulkup.datastore.keys import key_bytes, key_of, key_text
from bulkup.engine.handled import Write


class ClientWrites:
    """The writes of the last call that had any. A call is identified by the message of its entity.

    `read`: the versions that the current call has read.
    """

    def __init__(self, read: Mapping[bytes, int]) -> None:
        self._read = read
        self._written: dict[bytes, tuple[bool, int]] = {}
        """By key: whether the call had read it before it wrote it, and the version that the write
        created."""
        self._message: Any = None

    def note(self, message: Any, versions: Iterable[tuple[bytes, int]]) -> None:
        if self._message is not message:
            self._written.clear()
            self._message = message
        for key, version in versions:
            self._written[key] = key in self._read, version

    def has(self, message: Any, key: bytes) -> bool:
        """Whether the call with this message has written the key."""
        return self._message is message and key_bytes(key_of(key)) in self._written

    def why_refused(
        self, message: Any, own_key: bytes, writes: Iterable[Write | None]
    ) -> str | None:
        """Why the guard of a write must be refused: the call itself has replaced the guarded
        version, by writing through its client. None if there is no such write.

        Checked only when an entity is handled again. A write through the client may change nothing
        the second time, and then the guard holds. If it does change something, calling the handler
        once more would not help.
        """
        if self._message is not message:
            return None
        own = key_bytes(key_of(own_key))
        for write in writes:
            if write is None or not write.version:
                continue
            key = own if write.key == own_key else write.key
            was_read, version = self._written.get(key, (False, write.version))
            if version == write.version:
                continue
            if was_read or key == own or write.version != self._read.get(key):
                does = "deletes" if write.deletes else "puts"
                return (
                    f"handle_entity writes {key_text(key_of(key))} through its client (a "
                    f"transaction, client.put), which is stored now, and then {does} it as it was "
                    f"read before; leave out self.{does[:-1]}, or the write through the client"
                )
        return None
