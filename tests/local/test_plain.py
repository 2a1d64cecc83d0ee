"""A commit taken for plain is what a close look at each of its values makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.local import messages as m
from bulkup.local.indexing import index_entries
from bulkup.local.mutations import Operation, check_entities, check_mutations
from bulkup.local.plain import plain_commit
from bulkup.local.status import RpcError
from tests.examples import examples

_PLAIN = {"integer_value": 7}
_fine_names = ["a", "b", "name", "J" * 9, "R2_*", "a.b", "n" * 130, "J_"]
_names = st.sampled_from(_fine_names * 6 + ["_a", "__a__", "", "_" + "n" * 140])


def _value(**fields: Any) -> Any:
    return m.Value(**fields)


_scalars = st.one_of(
    st.sampled_from([0, 1, -1, 127, 1 << 40, 0x0A00, 0x1200]).map(
        lambda n: _value(integer_value=n)
    ),
    st.booleans().map(lambda b: _value(boolean_value=b)),
    st.just(_value(null_value=0)),
    st.sampled_from([0.5, float("nan"), -0.0]).map(lambda f: _value(double_value=f)),
    st.sampled_from(
        ["", "a", "J\x03abc", "\n\x00", "\x12\x00", "\n\x01_", "R\x02\x10\x01", "x" * 200]
    ).map(lambda s: _value(string_value=s)),
    st.sampled_from([b"", b"J\x00\x98\x01\x01", b"\xff"]).map(lambda b: _value(blob_value=b)),
)  # fmt: skip
_fine_seconds = [0, 1, 1_700_000_000, 1 << 34, 1 << 35, 253402300799, -1, -62135596800]
_odd_seconds = [253402300800, -62135596801, 1 << 62, -(1 << 63)]
_fine_nanos = [0, 1000, 123_456_000, 999_999_000]
_odd_nanos = [999_999_999, 1, 1_000_000_000, -1000]
_times = st.builds(
    lambda seconds, nanos: _value(timestamp_value={"seconds": seconds, "nanos": nanos}),
    st.sampled_from(_fine_seconds * 6 + _odd_seconds),
    st.sampled_from(_fine_nanos * 6 + _odd_nanos),
)
_odd = st.one_of(
    st.just(_value()),
    st.just(_value(key_value={"path": [{"kind": "K", "id": 1}]})),
    st.just(_value(geo_point_value={"latitude": 91})),
    st.just(_value(integer_value=1, meaning=99)),
    st.just(_value(string_value="a", meaning=15)),
    st.sampled_from([1400, 1500, 1501]).map(lambda n: _value(string_value="x" * n)),
)


@st.composite
def _values(draw: st.DrawFn, depth: int) -> Any:
    which = draw(st.sampled_from(["scalar", "time", "array", "entity"] * 5 + ["odd"]))
    value = m.Value()
    if which == "array":
        value.array_value.SetInParent()
        if depth < 5:
            for one in draw(st.lists(_values(depth=depth + 1), max_size=2)):
                value.array_value.values.append(one)
    elif which == "entity":
        value.entity_value.SetInParent()
        if depth < 5:
            value.entity_value.CopyFrom(draw(_entities(depth + 1)))
        if draw(st.integers(0, 9)) == 0:
            value.entity_value.key.path.add(kind="K")
    else:
        value.CopyFrom(draw({"scalar": _scalars, "time": _times, "odd": _odd}[which]))
    value.exclude_from_indexes = draw(st.sampled_from([False, False, False, True]))
    return value


@st.composite
def _entities(draw: st.DrawFn, depth: int = 0) -> Any:
    entity = m.Entity()
    for name, value in draw(st.dictionaries(_names, _values(depth=depth), max_size=3)).items():
        entity.properties[name].CopyFrom(value)
    return entity


@st.composite
def _mutations(draw: st.DrawFn) -> Any:
    entity = draw(_entities())
    key = entity.key
    key.partition_id.project_id = draw(st.sampled_from(["p"] * 30 + ["", "q"]))
    key.partition_id.namespace_id = draw(st.sampled_from([""] * 30 + ["n", "__n__"]))
    element = key.path.add(kind=draw(st.sampled_from(["K"] * 30 + ["", "__K__", "L"])))
    number = draw(st.integers(0, 1000))
    if number > 960:
        element.name = draw(st.sampled_from(["", "n", "__n__"]))
    elif number:
        element.id = number
    name = draw(st.sampled_from(["upsert"] * 4 + ["update", "insert"]))
    mutation = m.Mutation(**{name: entity})
    if draw(st.booleans()):
        mutation.base_version = draw(st.sampled_from([5] * 12 + [0, -1]))
    if mutation.base_version or draw(st.integers(0, 20)) == 0:
        mutation.conflict_resolution_strategy = m.Mutation.FAIL
    odd = draw(st.integers(0, 40))
    if odd == 0:
        mutation.property_mask.paths.append("a")
    elif odd == 1:
        mutation.property_transforms.add(property="a").set_to_server_value = 1
    elif odd == 2:
        mutation.update_time.seconds = 1
    elif odd == 3:
        return m.Mutation(delete=key)
    return mutation


def _request(mutations: list[Any], transactional: bool = False) -> bytes:
    request = m.CommitRequest(project_id="p", mutations=mutations)
    if transactional:
        request.mode = m.CommitRequest.TRANSACTIONAL
        request.single_use_transaction.read_write.SetInParent()
    else:
        request.mode = m.CommitRequest.NON_TRANSACTIONAL
    return bytes(request.SerializeToString())


def _facts(operation: Operation) -> tuple[Any, ...]:
    return (
        operation.name,
        operation.partition,
        operation.kind,
        operation.path,
        operation.base_version,
        operation.fail,
        operation.key.SerializeToString(deterministic=True),
    )


def _holds(raw: bytes) -> bool:
    """Compare with a close look, if it is taken for plain."""
    found = plain_commit(raw)
    if found is None:
        return False
    quick, operations = found
    request = m.CommitRequest.FromString(raw)
    for name in ("project_id", "database_id", "mode", "transaction", "single_use_transaction"):
        assert getattr(quick, name) == getattr(request, name)
    assert quick.WhichOneof("transaction_selector") == request.WhichOneof("transaction_selector")
    bodies = [one for mutation in request.mutations for one in _bodies(mutation)]
    expected = check_mutations(
        request.mutations, request.project_id, request.database_id, transactional=False
    )
    assert list(map(_facts, operations)) == list(map(_facts, expected))
    for operation, body, other in zip(operations, bodies, expected, strict=True):
        assert other.mask is None
        assert not other.transforms
        if operation.plain:
            assert operation.body == body
            entries = index_entries(operation.entity)
            assert operation.entity.SerializeToString(deterministic=True) == body
            check_entities([operation], [None])
            assert repr(operation.entries) == repr(entries)
        else:
            assert operation.entity.SerializeToString(deterministic=True) == body
    return True


def _bodies(mutation: Any) -> list[bytes]:
    name = mutation.WhichOneof("operation")
    return [getattr(mutation, name).SerializeToString(deterministic=True)]


@examples(600)
@given(st.lists(_mutations(), min_size=1, max_size=3), st.booleans())
def test_a_commit_taken_for_plain_is_what_a_close_look_makes_of_it(
    mutations: list[Any], transactional: bool
) -> None:
    _holds(_request(mutations, transactional))


@examples(600)
@given(
    st.lists(_mutations(), min_size=1, max_size=2),
    st.lists(
        st.tuples(st.integers(0, 1 << 20), st.integers(0, 3), st.binary(max_size=4)),
        min_size=1,
        max_size=3,
    ),
)
def test_so_it_is_of_bytes_that_no_client_of_ours_would_send(
    mutations: list[Any], edits: list[tuple[int, int, bytes]]
) -> None:
    raw = _request(mutations)
    for at, length, new in edits:
        at %= len(raw) + 1
        raw = raw[:at] + new + raw[at + length :]
    _holds(raw)


def _upsert(number: int = 1, **properties: Any) -> Any:
    mutation = m.Mutation()
    key = mutation.upsert.key
    key.partition_id.project_id = "p"
    key.path.add(kind="K", id=number)
    for name, value in properties.items():
        mutation.upsert.properties[name].CopyFrom(value)
    return mutation


def _times_of(seconds: int, nanos: int = 0) -> Any:
    return _value(timestamp_value={"seconds": seconds, "nanos": nanos})


def test_what_most_entities_have_is_plain() -> None:
    inner = m.Entity()
    inner.properties["city"].string_value = "Oslo"
    for transactional in (False, True):
        found = plain_commit(
            _request(
                [
                    _upsert(
                        number,
                        name=_value(string_value="Ann"),
                        first_name=_value(string_value="Ann"),
                        born=_times_of(-(10**9)),
                        changed=_times_of(1_700_000_000, 123_456_000),
                        ends=_times_of(253402300799),
                        n=_value(integer_value=number),
                        tags=_value(array_value={"values": [_value(string_value="a")]}),
                        home=_value(entity_value=inner, exclude_from_indexes=True),
                    )
                    for number in range(1, 4)
                ],
                transactional,
            )
        )
        assert found is not None
        assert all(operation.plain for operation in found[1])


@pytest.mark.parametrize(
    "bad",
    [
        {"a": _value()},
        {"a": _value(exclude_from_indexes=True)},
        {"__a__": _value(**_PLAIN)},
        {"": _value(**_PLAIN)},
        {"a": _times_of(253402300800)},
        {"a": _times_of(-62135596801)},
        {"a": _times_of(0, 10**9)},
        {"a": _value(array_value={"values": []}, exclude_from_indexes=True)},
        {"a": _value(array_value={"values": [_value(string_value="J" * 200)]},
                     exclude_from_indexes=True)},
        {"a": _value(array_value={"values": [_value(array_value={"values": []})]})},
        {"a": _value(array_value={"values": [_value()]})},
        {"a": _value(array_value={"values": [_value(exclude_from_indexes=True)]})},
        {"a": _value(entity_value={"properties": {"__b__": _value(**_PLAIN)}})},
        {"a": _value(entity_value={"properties": {"b": _value()}})},
        {"a": _value(integer_value=1, meaning=99)},
        {"a": _value(string_value="x" * 1501)},
    ],
)  # fmt: skip
def test_what_is_refused_is_never_plain(bad: dict[str, Any]) -> None:
    mutation = _upsert(**bad)
    with pytest.raises(RpcError):
        index_entries(m.Entity.FromString(mutation.upsert.SerializeToString()))
    found = plain_commit(_request([_upsert(2), mutation]))
    assert found is None or [one.plain for one in found[1]] == [True, False]


def test_the_length_alone_does_not_tell_that_a_meaning_was_dropped() -> None:
    """A request that leaves out an empty value is as long as one that has it and lost a meaning."""
    with_meaning = _upsert(1, a=_value(integer_value=1, meaning=99)).SerializeToString()
    key = (
        b"\x0a\x0f"
        + m.Key(
            partition_id={"project_id": "p"}, path=[{"kind": "Kind", "id": 2}]
        ).SerializeToString()
    )
    entity = key + b"\x1a\x03\x0a\x01b"
    without_value = b"\x32" + bytes((len(entity),)) + entity
    raw = _request([])
    for mutation in (with_meaning, without_value):
        raw += b"\x32" + bytes((len(mutation),)) + mutation
    assert len(m.CommitRequest.FromString(raw).mutations) == 2
    assert plain_commit(raw) is None


def test_a_field_of_a_mutation_that_is_not_known_here_leaves_it_to_others() -> None:
    for mutation in (
        m.Mutation(upsert=_upsert().upsert, property_mask={"paths": ["a"]}),
        m.Mutation(upsert=_upsert().upsert, update_time={"seconds": 1}),
        m.Mutation(delete=_upsert().upsert.key),
    ):
        assert plain_commit(_request([mutation])) is None


_MINUS_ONE = b"\xff\xff\xff\xff\x0f"
"""In five bytes; it is written again in ten."""
_KEY = m.Key(partition_id={"project_id": "p"}, path=[{"kind": "K", "id": 1}]).SerializeToString()


def _one(value: bytes, key: bytes = _KEY, more: bytes = b"", head: bytes = b"") -> bytes:
    """An upsert with one property, in bytes."""
    entity = m.field(1, key) + m.field(3, m.field(1, b"a") + m.field(2, value))
    return head + m.field(6, m.field(6, entity) + more) + m.field(8, b"p") + b"\x52\x02\x0a\x00"


@pytest.mark.parametrize(
    "raw",
    [
        _one(b"\x10\x05", more=m.field(9, m.field(1, b"a")), head=b"\x28" + _MINUS_ONE),
        _one(b"\x58" + _MINUS_ONE, more=m.field(9, m.field(1, b"a"))),
        _one(b"\x58" + _MINUS_ONE + b"\x70\xe3\x80\x80\x00"),
    ],
    ids=["a mask, made up for by the mode", "a mask, by a null", "a meaning, by a null"],
)
def test_nor_does_it_where_a_negative_number_came_in_fewer_bytes(raw: bytes) -> None:
    assert plain_commit(raw) is None


def test_a_partition_in_other_bytes_than_ours_is_left_to_others() -> None:
    twice = m.field(1, b"\x12\x01q\x12\x01p")
    path = m.Key(path=[{"kind": "K", "id": 1}]).SerializeToString()
    assert plain_commit(_one(b"\x10\x05", key=twice + path)) is None
    assert plain_commit(_one(b"\x10\x05")) is not None


@pytest.mark.timeout(60)
def test_no_blob_takes_minutes() -> None:
    blob = m.Value(blob_value=b"J" + b"\xff" * 900_000, exclude_from_indexes=True)
    taken = plain_commit(_one(blob.SerializeToString()))
    assert taken is not None
    assert not taken[1][0].plain


def test_a_time_of_the_lowest_nanoseconds_is_refused_as_others_are() -> None:
    entity = m.Entity.FromString(m.field(1, _KEY))
    for nanos in (-1, -1000, -(2**31)):
        entity.properties["a"].timestamp_value.nanos = nanos
        with pytest.raises(RpcError):
            index_entries(entity)
