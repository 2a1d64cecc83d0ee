"""What a put does to an entity's index entries is what indexing all of it would have done."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.local import messages as m
from bulkup.local.changes import changes, new_properties
from bulkup.local.indexing import index_entries
from bulkup.local.mutations import check_entities, check_mutations
from bulkup.local.packing import add, each
from bulkup.local.service import Service
from bulkup.local.status import RpcError
from bulkup.local.storage import Storage
from bulkup.local.writes import Known, Writer
from tests.examples import examples

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, float("nan"), -0.0]),
    st.sampled_from(["", "a", "R", "ab" * 100]),
    st.sampled_from([b"", b"a"]),
)


@st.composite
def _values(draw: st.DrawFn, depth: int = 0) -> Any:
    value = m.Value()
    kind = draw(st.sampled_from(["scalar"] * 6 + ["stamp", "array", "entity"]))
    if kind == "scalar" or depth > 1:
        one = draw(_scalars)
        if one is None:
            value.null_value = 0
        else:
            name = {bool: "boolean", int: "integer", float: "double", str: "string", bytes: "blob"}
            setattr(value, f"{name[type(one)]}_value", one)
    elif kind == "stamp":
        value.timestamp_value.nanos = draw(st.sampled_from([0, 1, 1000, 1999, 2000]))
    elif kind == "array":
        value.array_value.SetInParent()
        for element in draw(st.lists(_values(depth=2), max_size=3)):
            value.array_value.values.add().CopyFrom(element)
        return value
    else:
        value.entity_value.CopyFrom(draw(_entities(depth=depth + 1)))
    value.exclude_from_indexes = draw(st.sampled_from([False, False, True]))
    return value


@st.composite
def _entities(draw: st.DrawFn, depth: int = 0) -> Any:
    entity = m.Entity()
    names = st.sampled_from(["a", "b", "c", "d", "a.b", "b.a"])
    for name, value in draw(st.dictionaries(names, _values(depth=depth), max_size=5)).items():
        entity.properties[name].CopyFrom(value)
    return entity


def _put(entity: Any) -> Any:
    copy = m.Mutation(upsert=entity)
    element = copy.upsert.key.path.add(kind="K")
    element.id = 1
    return copy


def _commit(service: Service, mutations: list[Any]) -> Any:
    request = m.CommitRequest(project_id="p", mode="TRANSACTIONAL", mutations=mutations)
    request.single_use_transaction.SetInParent()
    return m.CommitResponse.FromString(service.commit(request.SerializeToString()))


def _indexed(storage: Storage, at: int | None = None) -> set[tuple[str, bytes]]:
    """The (property, value) rows of the one entity, now or at a version."""
    alive = "until IS NULL" if at is None else f"since <= {at} AND (until IS NULL OR until > {at})"
    with storage.reading() as snapshot:
        rows = snapshot.db.execute(f"SELECT slot, value FROM entries WHERE {alive}").fetchall()
    assert len(set(rows)) == len(rows)
    names = {number: prop for (_, prop), number in storage.slots.items()}
    return {(names[slot], value) for slot, value in rows}


def _expected(entity: Any) -> set[tuple[str, bytes]]:
    entries = index_entries(m.Entity.FromString(entity.SerializeToString()))
    return {(prop, value) for prop, values in entries.items() for value in each(values)}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    storage = Storage(tmp_path / "x.datastore")
    yield Service(storage)
    storage.close()


@examples(150)
@given(st.lists(_entities(), min_size=2, max_size=6))
def test_entries_after_any_puts_are_those_of_the_entity_now_and_then(entities: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(Path(folder) / "x.datastore")
        try:
            service = Service(storage)
            versions = []
            for entity in entities:
                (result,) = _commit(service, [_put(entity)]).mutation_results
                versions.append(result.version)
                with storage.reading() as snapshot:
                    ((text,),) = snapshot.db.execute("SELECT packed FROM entities").fetchall()
                packed: dict[str, Any] = {}
                copy = m.Entity.FromString(entity.SerializeToString())
                for prop, values in index_entries(copy).items():
                    add(packed, storage.slots[1, prop], values)
                assert json.loads(text) == packed
                assert _indexed(storage) == _expected(entity)
            for entity, version in zip(entities, versions, strict=True):
                assert _indexed(storage, version) == _expected(entity)
        finally:
            storage.close()


@examples(300)
@given(_entities(), _entities())
def test_what_changes_says_is_the_difference_of_all_entries(old: Any, new: Any) -> None:
    before = index_entries(old)
    base = old.SerializeToString(deterministic=True)
    found = changes(base, new.SerializeToString(deterministic=True))
    uncut = new.SerializeToString(deterministic=True)
    after = index_entries(new)
    if found is None:
        return
    assert new.SerializeToString(deterministic=True) == uncut
    touched = found.before.keys() | found.after.keys()
    assert {path: before[path] for path in before.keys() - touched} == {
        path: after[path] for path in after.keys() - touched
    }
    assert found.before == {path: before[path] for path in touched if path in before}
    assert found.after == {path: after[path] for path in touched if path in after}


def test_one_changed_property_of_many_is_all_that_is_looked_into() -> None:
    entity = m.Entity()
    for number in range(50):
        entity.properties[f"p{number}"].integer_value = number
    base = entity.SerializeToString(deterministic=True)
    entity.properties["p7"].string_value = "x" * 1500
    found = changes(base, entity.SerializeToString(deterministic=True))
    assert found is not None
    assert found.before.keys() == found.after.keys() == {"p7"}
    entity.properties["p7"].string_value = "x" * 1501
    with pytest.raises(RpcError, match="longer than 1500 bytes"):
        changes(base, entity.SerializeToString(deterministic=True))


def _with(**numbers: int) -> Any:
    entity = m.Entity()
    for name, number in numbers.items():
        entity.properties[name].integer_value = number
    return entity


def test_what_was_read_before_ones_turn_gives_way_to_what_others_wrote_meanwhile(
    service: Service,
) -> None:
    storage = service.storage
    _commit(service, [_put(_with(a=1, b=1))])
    operations = check_mutations([_put(_with(a=1, b=2))], "p", "", transactional=True)
    known = Known(storage, operations)
    check_entities(operations, known.bodies)
    assert operations[0].changes is not None
    _commit(service, [_put(_with(a=5, c=5))])
    with storage.writing() as (db, version):
        writer = Writer(storage, db, version, known)
        writer.apply(operations[0])
        writer.finish()
    assert _indexed(storage) == _expected(_with(a=1, b=2))


def test_puts_of_one_entity_in_one_commit_build_on_one_another(service: Service) -> None:
    _commit(service, [_put(_with(a=1, b=1))])
    puts = [_with(a=2, b=1), _with(a=1, b=1), _with(a=1, b=3), _with(b=3, c=4)]
    for count in range(1, len(puts) + 1):
        _commit(service, [_put(entity) for entity in puts[:count]])
        assert _indexed(service.storage) == _expected(puts[count - 1])


def test_a_property_and_a_nested_one_of_the_same_path_do_not_take_each_other_s_entries(
    service: Service,
) -> None:
    for nested, dotted in ((1, 1), (2, 1), (2, 2), (2, 3), (3, 3)):
        entity = _with(**{"a.b": dotted, "c": 0})
        entity.properties["a"].entity_value.CopyFrom(_with(b=nested))
        _commit(service, [_put(entity)])
        assert _indexed(service.storage) == {("a.b", v) for v in _numbers(nested, dotted)} | {
            ("c", v) for v in _numbers(0)
        }


def _numbers(*numbers: int) -> set[bytes]:
    return {value for number in numbers for _, value in _expected(_with(x=number))}


@examples(200)
@given(_entities(), _entities())
def test_no_property_that_is_not_stored_just_so_escapes_being_looked_into(
    old: Any, new: Any
) -> None:
    base, body = (one.SerializeToString(deterministic=True) for one in (old, new))
    found = new_properties(base, body)
    assert found is not None
    # As bytes: NaN is not equal to itself.
    stored, came, looked_into = (
        {
            name: value.SerializeToString(deterministic=True)
            for name, value in one.properties.items()
        }
        for one in (old, new, found)
    )
    assert looked_into.items() <= came.items()
    assert came.items() - stored.items() <= looked_into.items()


def test_the_bytes_of_a_property_inside_of_a_stored_value_are_not_that_property() -> None:
    bad = m.Entity()
    bad.properties["b"].meaning = 99
    old = m.Entity()
    # At the place in the body where the property itself would be, too.
    for name in ("a", "b", "c"):
        old.properties[name].blob_value = bad.SerializeToString() * 3
    found = new_properties(
        old.SerializeToString(deterministic=True), bad.SerializeToString(deterministic=True)
    )
    assert found is not None
    assert found.properties["b"].meaning == 99


def test_a_field_that_we_do_not_know_is_left_to_those_who_look_into_everything() -> None:
    entity = m.Entity()
    entity.properties["a"].integer_value = 1
    body = entity.SerializeToString(deterministic=True)
    assert new_properties(body, body + b"\x7a\x01x") is None
    assert new_properties(body + b"\x7a\x01x", body) is not None
