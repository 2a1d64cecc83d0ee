"""Lists of keys in a run's folder."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.core.errors import StateError
from bulkup.datastore.keys import key_bytes, key_of
from bulkup.datastore.messages import KeyPb
from bulkup.engine.splits import key_order
from bulkup.state.key_list import KEYS_NAME, KeyList, place_of
from tests.cli.nursery import REPOSITORY

TEXTS = st.text(
    st.sampled_from("\0\1aAbé\u2028\U0001f600\ud7ff") | st.characters(exclude_categories=["Cs"]),
    min_size=1,
    max_size=5,
)
IDS = st.integers(-(2**63), 2**63 - 1).filter(bool)
PATHS = st.lists(st.tuples(TEXTS, IDS | TEXTS), min_size=1, max_size=4)


def key(*path: tuple[str, Any]) -> bytes:
    pb = KeyPb()
    pb.partition_id.project_id = "p"
    for kind, ident in path:
        element = pb.path.add(kind=kind)
        if isinstance(ident, str):
            element.name = ident
        else:
            element.id = ident
    return key_bytes(pb)


KEYS = PATHS.map(lambda path: key(*path))


@given(KEYS, KEYS)
def test_generated_places_compare_as_datastore_orders_keys(one: bytes, other: bytes) -> None:
    orders = key_order(key_of(one)), key_order(key_of(other))
    assert (place_of(one) < place_of(other)) == (orders[0] < orders[1])
    assert (place_of(one) == place_of(other)) == (one == other)


@given(st.lists(KEYS, max_size=20), st.integers(1, 25), st.data())
def test_generated_lists_are_read_in_order_and_in_parts(
    keys: list[bytes], most: int, data: st.DataObject
) -> None:
    ordered = sorted({*keys}, key=place_of)
    with closing(KeyList.of(keys, "a test")) as found:
        assert (list(found), found.facts.count) == (ordered, len(ordered))
        bounds = st.sampled_from([b"", *ordered])
        after, upto = data.draw(bounds), data.draw(bounds)
        wanted = [
            k
            for k in ordered
            if (not after or place_of(k) > place_of(after))
            and (not upto or place_of(k) <= place_of(upto))
        ]
        assert found.between(after, upto, most) == wanted[:most]
        spread = found.spread(most)
        assert len(spread) <= most
        assert [k for k in ordered if k in spread] == spread


def test_the_digest_is_that_of_the_keys_and_their_use_whatever_the_order() -> None:
    one, two = key(("A", 1)), key(("A", "1"))

    def digest(keys: list[bytes], **use: bool) -> str:
        with closing(KeyList.of(keys, "x", **use)) as found:
            return found.facts.digest

    same = digest([one, two])
    assert same == digest([two, one, two])
    others = [digest([one]), digest([]), digest([two, one], absent=True)]
    assert len({same, *others, digest([one, two], matching=True)}) == 5


def test_a_kept_list_is_the_same_and_private(tmp_path: Path) -> None:
    keys = [key(("A", i)) for i in range(1, 400)]
    with closing(KeyList.of(keys, "x.txt", matching=True)) as made:
        made.keep_in(tmp_path)
        made.keep_in(tmp_path)
        kept = KeyList.kept_in(tmp_path)
        assert kept is not None
        with closing(kept):
            assert (kept.facts, list(kept)) == (made.facts, keys)
    path = tmp_path / KEYS_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [KEYS_NAME]


def test_there_is_none_where_none_was_kept(tmp_path: Path) -> None:
    assert KeyList.kept_in(tmp_path) is None


@pytest.mark.parametrize("damage", ["cut", "other keys", "no list", "no database"])
def test_a_damaged_list_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / KEYS_NAME
    with closing(KeyList.of([key(("A", i)) for i in range(1, 400)], "x")) as made:
        made.keep_in(tmp_path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "other keys":
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("DELETE FROM keys WHERE place = (SELECT max(place) FROM keys)")
    elif damage == "no list":
        path.unlink()
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE other (x)")
    else:
        path.write_text("not a database, and long enough to be taken for one" * 100)
    with pytest.raises(StateError, match="is damaged"):
        KeyList.kept_in(tmp_path)


def test_a_list_that_cannot_be_kept_says_where(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("")
    with (
        closing(KeyList.of([key(("A", 1))], "x")) as made,
        pytest.raises(StateError, match="cannot write the list of keys to"),
    ):
        made.keep_in(folder)


GROWS = """
import resource, sys
from contextlib import closing
from bulkup.state.key_list import KeyList
from tests.state.test_key_list import key

def build(count):
    keys = (key(("A", f"{i * 7919 % 1000003}-{'x' * 20}")) for i in range(count))
    with closing(KeyList.of(keys, "x")) as found:
        return sum(1 for _ in found), len(found.spread(256))

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

build(1000)
before = peak_mib()
assert build(200_000)[0] == 200_000
print(peak_mib() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_keys() -> None:
    """As a list in Python, these keys would take more than 20 MiB."""
    child = subprocess.run(
        [sys.executable, "-c", GROWS], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert float(child.stdout) < 12
