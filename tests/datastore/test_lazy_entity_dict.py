"""A lazy entity is a dict in every way people use dicts: it is compared with a plain Entity."""

from __future__ import annotations

import collections
import copy
import datetime
import json
import pickle
import string
from typing import Any

import pytest
from google.cloud.datastore import Entity, Key
from google.cloud.datastore.helpers import entity_from_protobuf, entity_to_protobuf
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bulkup.datastore.entity_patch import encode_put
from bulkup.datastore.lazy_entity import LazyEntity, read_message
from bulkup.datastore.messages import EntityPb
from bulkup.datastore.pages import PageEntity
from tests.examples import examples

KEY = Key("City", 5, project="p", namespace="n")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.floats(-1, 1),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    st.binary(max_size=2),
    st.datetimes(datetime.datetime(2, 1, 1), timezones=st.sampled_from([datetime.timezone.utc])),
    st.sampled_from([KEY, Key("A", "b", project="q")]),
)
NAMES = st.sampled_from(["a", "b", "c", "d", "e"])


@st.composite
def nested(draw: st.DrawFn) -> Entity:
    entity = Entity(key=draw(st.sampled_from([None, KEY])))
    entity.update(draw(st.dictionaries(NAMES, SCALARS, max_size=3)))
    entity.exclude_from_indexes.update(draw(st.sets(NAMES, max_size=2)) & entity.keys())
    return entity


VALUES = SCALARS | nested() | st.lists(SCALARS | nested(), max_size=3)


def plain(value: Any) -> Any:
    """All there is to a value, comparable; fails on a placeholder that leaked."""
    assert "_Unread" not in type(value).__name__
    if isinstance(value, Entity):
        flags = sorted(value.exclude_from_indexes)
        return ["entity", plain(value.key), flags, {n: plain(v) for n, v in value.items()}]
    if isinstance(value, Key):  # an incomplete key does not even equal itself
        return ["key", value.flat_path, value.project, value.namespace, value.database]
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(inner) for inner in value)
    return value


def keywords(**properties: Any) -> dict[str, Any]:
    return properties


def matched(value: Any) -> Any:
    match value:
        case {"a": a, "b": b, **rest}:
            return ["both", a, b, rest]
        case {"c": None | True | 0}:
            return "small c"
        case {"d": [first, *others]}:
            return ["list", first, others]
        case {}:
            return "mapping"


READS: dict[str, Any] = {
    "dict(e)": dict,
    "dict(e, z=1)": lambda e: dict(e, z=1),
    "{**e}": lambda e: {**e},
    "f(**e)": lambda e: keywords(**e),
    "e | {}": lambda e: e | {"z": 1},
    "{} | e": lambda e: {"z": 1} | e,
    "OrderedDict | e": lambda e: dict(collections.OrderedDict(z=1) | e),
    "e | e": lambda e: e | e,
    "update from e": lambda e: _updated({}, e),
    "|= e": lambda e: _ior({"a": "old"}, e),
    "copy": lambda e: e.copy(),
    "items": lambda e: list(e.items()),
    "items twice": lambda e: [list(e.items()), list(e.items())],
    "reversed items": lambda e: list(reversed(e.items())),
    "values": lambda e: list(e.values()),
    "keys": lambda e: list(e.keys()),
    "keys mapping": lambda e: {name: e.keys().mapping[name] for name in e},
    "iter": list,
    "reversed": lambda e: list(reversed(e)),
    "sorted": sorted,
    "set": set,
    "len": len,
    "bool": bool,
    "comprehension": lambda e: {name: e[name] for name in e},
    "read while iterating": lambda e: [(name, e[name], e.get(name)) for name in e],
    "unpacking": lambda e: [*e],
    "match": matched,
    "json": lambda e: json.dumps(e, default=str),
    "json sorted": lambda e: json.dumps(e, default=str, sort_keys=True),
    "json indented": lambda e: json.dumps([{"x": e}], default=str, indent=1),
    "repr": repr,
    "str": str,
    "format_map": lambda e: "{a}{b}".format_map(collections.defaultdict(str, e)),
    "template": lambda e: string.Template("$a $b $c").safe_substitute(e),
    "ChainMap": lambda e: dict(collections.ChainMap({"z": 1}, e)),
    "OrderedDict": lambda e: dict(collections.OrderedDict(e)),
    "UserDict": lambda e: dict(collections.UserDict(e)),
    "fromkeys": lambda e: [dict.fromkeys(e, 1), e.fromkeys(["q"], 2)],
    "== itself": lambda e: [e == e, e != e],
    "== dict": lambda e: [e == dict(e), dict(e) == e, e == {"z": 1}, e != {"z": 1}, e == 5],
    "in a list": lambda e: [e in [dict(e)], [e] == [dict(e)], [dict(e)] == [e]],
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "deepcopy in a list": lambda e: copy.deepcopy([e, e]),
    "pickle": lambda e: pickle.loads(pickle.dumps(e)),
    "pickle 0": lambda e: pickle.loads(pickle.dumps(e, 0)),
    "kind and id": lambda e: [e.kind, e.id],
    "exclude": lambda e: sorted(e.exclude_from_indexes),
    "meanings": lambda e: e._meanings,
    "missing": lambda e: [e.get("zz"), e.get("zz", 3), e.pop("zz", 4), "zz" in e],
}


def _updated(target: dict[str, Any], e: Entity) -> dict[str, Any]:
    target.update(e)
    return target


def _ior(target: dict[str, Any], e: Entity) -> dict[str, Any]:
    target |= e
    return target


def unordered(value: Any) -> Any:
    """The same for the same things in another order; of a text, its characters."""
    if isinstance(value, str):
        return "".join(sorted(value))
    if isinstance(value, dict):
        return sorted(repr((name, unordered(inner))) for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return sorted(repr(unordered(inner)) for inner in value)
    return value


def both_read(entity: Entity) -> tuple[Entity, LazyEntity]:
    """As the official client and as we read it from the same bytes: the order of the properties,
    which is that of a protobuf map, is the same one then."""
    rpc = entity_to_protobuf(entity)._pb.SerializeToString()
    return entity_from_protobuf(EntityPb.FromString(rpc)), LazyEntity(PageEntity.FromString(rpc))


class SideBySide(RuleBasedStateMachine):
    """The same operations on an official Entity and on a lazy one, read from the same message."""

    @initialize(
        entity=nested(), values=st.lists(VALUES, min_size=5, max_size=5), named=st.booleans()
    )
    def read(self, entity: Entity, values: list[Any], named: bool) -> None:
        """`named`: all names are asked for first. Else they come after those that were touched,
        for a protobuf map has no order to keep."""
        self.named = named
        entity.key = KEY
        entity.update(zip("abcde", values, strict=True))
        del entity["e"]
        self.official, self.lazy = both_read(entity)
        if named:
            assert len(self.lazy) == len(self.official)
        self.pb = entity_to_protobuf(entity)._pb
        self.rpc = self.pb.SerializeToString(deterministic=True)
        self.both = (self.official, self.lazy)

    def same(self, function: Any) -> None:
        results = []
        for entity in self.both:
            try:
                results.append(plain(function(entity)))
            except (KeyError, AttributeError, TypeError) as error:
                results.append((type(error), str(error)))
        # A protobuf map, which each nested entity is, has no order to keep.
        results = [unordered(result) for result in results]
        assert results[0] == results[1]
        assert repr(results[0]) == repr(results[1])

    @rule(how=st.sampled_from(sorted(READS)))
    def look(self, how: str) -> None:
        self.same(READS[how])

    @rule(name=NAMES)
    def get(self, name: str) -> None:
        self.same(lambda e: e[name])
        self.same(lambda e: e.get(name, 7))
        self.same(lambda e: name in e)

    @rule(name=NAMES, value=VALUES)
    def assign(self, name: str, value: Any) -> None:
        for entity in self.both:
            entity[name] = copy.deepcopy(value)

    @rule(name=NAMES)
    def assign_again(self, name: str) -> None:
        for entity in self.both:
            if name in entity:
                entity[name] = entity[name]

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        def delete(e: Entity) -> None:
            del e[name]

        self.same(delete)

    @rule(name=NAMES, default=st.lists(st.integers(), max_size=1))
    def pop(self, name: str, default: list[int]) -> None:
        self.same(lambda e: e.pop(name, *default))

    @precondition(lambda self: self.named)  # it takes the last one
    @rule()
    def popitem(self) -> None:
        self.same(lambda e: e.popitem())

    @rule(name=NAMES, value=VALUES)
    def setdefault(self, name: str, value: Any) -> None:
        self.same(lambda e: e.setdefault(name, copy.deepcopy(value)))

    @rule(values=st.dictionaries(NAMES, SCALARS, max_size=3), how=st.integers(0, 4))
    def update(self, values: dict[str, Any], how: int) -> None:
        for entity in self.both:
            if how == 0:
                entity.update(values)
            elif how == 1:
                entity.update(**values)
            elif how == 2:
                entity.update(list(values.items()))
            elif how == 3:
                entity |= values
            else:
                entity.update(entity)
        assert self.both == (self.official, self.lazy)

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        for entity in self.both:
            if old in entity:
                entity[new] = entity.pop(old)

    @precondition(lambda self: len(self.lazy) > 4)
    @rule()
    def clear(self) -> None:
        for entity in self.both:
            entity.clear()

    @rule(name=NAMES)
    def flip_the_index_flag(self, name: str) -> None:
        for entity in self.both:
            entity.exclude_from_indexes ^= {name}

    @rule(name=NAMES, value=SCALARS, at=st.integers(0, 3), how=st.integers(0, 2))
    def change_in_place(self, name: str, value: Any, at: int, how: int) -> None:
        for entity in self.both:
            inside = entity.get(name)
            if isinstance(inside, list):
                if how == 0:
                    inside.insert(at, value)
                elif how == 1:
                    del inside[at : at + 1]
                else:
                    inside[at : at + 1] = [value]
                inside = next((item for item in inside if isinstance(item, dict)), None)
            if isinstance(inside, dict):
                if how == 1:
                    inside.pop("a", None)
                else:
                    inside["a"] = value

    @rule(shallow=st.booleans())
    def go_on_with_a_copy(self, shallow: bool) -> None:
        copier = copy.copy if shallow else copy.deepcopy
        self.official, self.lazy = copier(self.official), copier(self.lazy)
        self.both = (self.official, self.lazy)

    @rule(name=NAMES, value=SCALARS)
    def a_deep_copy_shares_nothing(self, name: str, value: Any) -> None:
        before = encode_put(self.lazy)
        twin = copy.deepcopy(self.lazy)
        twin[name] = value
        twin.exclude_from_indexes.add("zzz")
        for inner in twin.values():
            if isinstance(inner, list):
                inner.append(1)
        assert encode_put(self.lazy) == before

    @rule(id_=st.none() | st.integers(5, 6))
    def change_the_key(self, id_: int | None) -> None:
        path = ("City",) if id_ is None else ("City", id_)
        for entity in self.both:
            entity.key = Key(*path, project="p", namespace="n")

    @invariant()
    def what_would_be_written_is_what_the_official_client_writes(self) -> None:
        if not hasattr(self, "lazy"):
            return
        expected = entity_to_protobuf(self.official)._pb
        assert encode_put(self.lazy, rewrite=True) == expected
        assert (encode_put(self.lazy) is None) == (expected == self.pb)
        if self.named:
            assert len(self.lazy) == len(self.official)
            assert list(self.lazy) == list(self.official)
        assert read_message(self.lazy).SerializeToString(deterministic=True) == self.rpc


TestSideBySide = SideBySide.TestCase
TestSideBySide.settings = settings(examples(60), stateful_step_count=25)


@pytest.mark.parametrize("how", sorted(READS))
def test_an_untouched_entity_reads_like_a_dict(how: str) -> None:
    inner = Entity()
    inner["x"] = 1
    entity = Entity(key=KEY, exclude_from_indexes=["a", "d"])
    entity.update(a="text", b=[1, inner], c=None, d=[2.5], f=inner)
    official, lazy = both_read(entity)
    ours, theirs = READS[how](lazy), READS[how](official)
    assert plain(ours) == plain(theirs)
    assert repr(ours) == repr(theirs)


def test_an_entity_without_properties_is_empty() -> None:
    lazy = LazyEntity(entity_to_protobuf(Entity(key=KEY))._pb)
    assert not lazy
    assert json.dumps(lazy) == "{}"
    with pytest.raises(KeyError):
        lazy.popitem()
    with pytest.raises(TypeError):
        hash(lazy)


def test_a_lazy_entity_equals_the_plain_one_both_ways() -> None:
    entity = Entity(key=KEY)
    entity.update(a=1, b=[1, 2])
    pb = entity_to_protobuf(entity)._pb
    assert entity == LazyEntity(pb)
    assert LazyEntity(pb) == entity
    assert LazyEntity(pb) == LazyEntity(pb)
    entity["a"] = 2
    assert entity != LazyEntity(pb)
    assert LazyEntity(pb) != entity


def test_a_shallow_copy_shares_its_lists_and_a_pickle_is_a_plain_entity() -> None:
    entity = Entity(key=KEY, exclude_from_indexes=["a"])
    entity.update(a=[1])
    lazy = LazyEntity(entity_to_protobuf(entity)._pb)
    lazy.note = "attributes travel too"
    twin = copy.copy(lazy)
    twin["a"].append(2)
    twin.exclude_from_indexes.add("b")
    assert lazy["a"] == [1, 2]
    assert lazy.exclude_from_indexes == {"a", "b"}
    thawed = pickle.loads(pickle.dumps(lazy))
    assert type(thawed) is Entity
    assert thawed == lazy
    assert thawed.note == twin.note == copy.deepcopy(lazy).note == lazy.note


def test_no_placeholder_is_compared_or_copied_when_meanings_were_set_by_hand() -> None:
    entity = Entity(key=KEY)
    entity.update(a=1, b=[1, 2])
    pb = entity_to_protobuf(entity)._pb
    one, other = LazyEntity(pb), LazyEntity(pb)
    one._meanings = other._meanings = {}
    assert one == other
    lazy = LazyEntity(pb)
    lazy._meanings = {}
    copy.copy(lazy)["b"].append(3)
    assert lazy["b"] == [1, 2, 3]
