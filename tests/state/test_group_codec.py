"""The stored form of a group record: one of the version before is read, and written alike."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from bulkup.core.model import TargetInfo
from bulkup.datastore.messages import EntityPb
from bulkup.datastore.rpc import Rpc
from bulkup.state.groups import Group, Groups
from bulkup.state.raw_entities import read_properties

GROUP = Group(
    "g1", "Bump", {"a": "1"}, "tenant-*", ("", "b", "tenant-1"),
    "2026-01-02T03:04:05.678901+00:00", "ann@far", fresh=True, adopted={"b": "other"},
)  # fmt: skip


def stored() -> Any:
    """The entity that commit 8c94393 made of GROUP."""
    text = (Path(__file__).parent / "data" / "group_record.json").read_text(encoding="utf-8")
    return EntityPb.FromString(base64.b64decode(json.loads(text)["group"]))


class OneEntity:
    """Datastore with one entity in it, as far as `lookup` goes."""

    def lookup(self, keys: list[Any]) -> dict[bytes, Any]:
        assert keys == [stored().key]
        return {b"": type("Result", (), {"entity": stored(), "version": 7})}


def groups() -> Groups:
    return Groups(cast(Rpc, OneEntity()), TargetInfo("project", "database", "ignored"), "i" * 64)


def test_a_group_is_read_from_the_old_form() -> None:
    assert groups().read() == replace(GROUP, version=7)


def test_a_group_is_written_in_the_old_form() -> None:
    old, new = stored(), groups()._entity(GROUP)
    # Versions of zlib may compress differently.
    old_names, new_names = (read_properties(pb)["names"] for pb in (old, new))
    assert zlib.decompress(new_names) == zlib.decompress(old_names)
    for pb in (old, new):
        pb.properties["names"].blob_value = b""
    assert new == old
