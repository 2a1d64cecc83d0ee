"""The entity that updaters get: decodes only what is read, encodes only what changes.

A `LazyEntity` keeps the message it was read from, in which a value becomes a message only when it
is accessed (`bulkup.datastore.pages`). A write sends that message with the changed properties
patched in (`bulkup.datastore.entity_patch`). So what Python cannot hold (meanings, nanoseconds,
mixed index flags in an array, values of unknown type) is written back unchanged.

C code can read a dict subclass without calling its methods. This class prevents that as follows:
- Merging and copying (`dict(e)`, `{**e}`, `f(**e)`, `e | d`, `e.copy()`) calls `keys` and
  `__getitem__` because `__iter__` is overridden.
- The C JSON encoder calls `items`, but first asks for the dict's own size, so the storage is never
  empty.
- `==` and `repr` of dict read the storage, so all values are decoded first.
It cannot prevent `dict.get(entity, name)` and the like.

Most updaters read a few properties by name, so even the names are filled in only when more is
needed. Until `_name_all` is called, the storage has the properties that were read or set, and
UNREAD.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from typing import Any, NoReturn

from google.cloud.datastore import Entity, Key
from google.protobuf.message import DecodeError

from bulkup.datastore.keys import key_from_pb, key_to_pb
from bulkup.datastore.messages import EntityPb, KeyPb, Pb, ValuePb
from bulkup.datastore.pages import PageEntity
from bulkup.datastore.scalar_codec import NOT_PLAIN, read_plain
from bulkup.datastore.value_codec import DECODERS, PLAIN
from bulkup.datastore.value_compare import same
from bulkup.datastore.value_flags import is_excluded, meaning_of


class _Unread:
    """The placeholder in the storage for a value not decoded yet. Copies and pickles as itself."""

    def __repr__(self) -> str:
        return "<unreadable>"

    def __reduce__(self) -> str:
        return "UNREAD"


UNREAD: Any = _Unread()

_filling = threading.Lock()
"""Several threads of a handler may read one entity. This lock ensures that names are filled in only
once, and that all threads get the same object for a mutable value."""
_storage: Any = dict.items
_get: Any = dict.get
_setitem: Any = dict.__setitem__
_parsed: Any = ValuePb.FromString

_SLOTS = "_pb", "_properties", "_seen", "_version"
"""The attributes of every LazyEntity."""


class LazyEntity(Entity):  # type: ignore[misc]
    """A `google.cloud.datastore.Entity` backed by a `PageEntity`. A raw Entity message is converted
    to one.

    Reading a property that cannot be decoded raises ValueError with its name. Testing for it with
    `in`, `len`, listing names and deleting it still work, and a put writes it back unchanged.

    `version` is the entity's version when it was read (0: unknown).
    """

    # All other attributes have class attributes as defaults, so most entities get no __dict__.
    __slots__ = _SLOTS
    _pb: Pb
    _properties: Pb
    """The message's properties: serialized Values by name."""
    _seen: dict[str, Any]
    """Decoded values. A property that still has the same object needs no comparison, unless the
    object is mutable."""
    _version: int
    _named = False
    """All names are in the storage; a name that is missing there is not a property (any more)."""
    _values: dict[str, Pb] | None = None
    """Value messages that nested entities and arrays were decoded from, and still refer to."""
    _origin: Pb | None = None
    """The message inside a Value from which a nested entity was decoded."""
    _carried: dict[str, tuple[Pb, Any]] | None = None
    """Value messages of properties that were moved from another name, and their decoded values."""
    _unsent = False
    """The message was patched in place for a put that was not sent."""
    _more_than_values = False
    """The key was set, or index flags or meanings were accessed, so they may have changed."""
    _has_twin = False
    """A copy shares the message, so it must not be patched in place any more."""
    _key: Any = UNREAD
    _read_key: Any = UNREAD
    _excluded: Any = UNREAD
    _read_meanings: Any = UNREAD

    def __init__(self, pb: Pb, version: int = 0) -> None:
        # Not Entity.__init__: it would decode the key and make two containers per entity.
        if type(pb) is not PageEntity:
            self._origin = pb
            pb = PageEntity.FromString(pb.SerializeToString())
        self._pb = pb
        self._properties = properties = pb.properties
        self._version = version
        self._seen = {}
        if properties:
            _setitem(self, UNREAD, UNREAD)

    def __getattr__(self, name: str) -> NoReturn:
        hint = "" if name.startswith("_") else f'; a property is read as entity["{name}"]'
        raise AttributeError(f"an Entity has no attribute {name!r}{hint}")

    def _name_all(self) -> None:
        if self._named:
            return
        with _filling:
            if not self._named:
                for name in self._properties:
                    dict.setdefault(self, name, UNREAD)
                dict.pop(self, UNREAD, None)
                self._named = True

    @property
    def key(self) -> Key | None:
        key = self._key
        if key is UNREAD:
            key_pb = read_key(self)
            key = None if key_pb is None else key_from_pb(key_pb)
            self._key = self._read_key = key
        return key

    @key.setter
    def key(self, key: Key | None) -> None:
        self._key = key
        self._more_than_values = True

    @property
    def exclude_from_indexes(self) -> set[str]:
        """The names of properties that are not indexed; may be changed in place or replaced."""
        if self._excluded is UNREAD:
            names = self._properties
            self._excluded = {name for name in names if is_excluded(value_message(self, name))}
            self._more_than_values = True
        excluded: set[str] = self._excluded
        return excluded

    @exclude_from_indexes.setter
    def exclude_from_indexes(self, names: set[str]) -> None:
        self._excluded = names
        self._more_than_values = True

    @property
    def _meanings(self) -> dict[str, Any]:
        """As the official client keeps them: {name: (meaning, the value it was read with)}."""
        if self._read_meanings is UNREAD:
            self._read_meanings = {}
            self._more_than_values = True
            self._read_readable()
            for name in self._properties:
                value_pb = value_message(self, name)
                meaning = meaning_of(value_pb)
                value = _get(self, name)
                if meaning is None or value is UNREAD:
                    continue
                # A value that was replaced has no meaning. A list or entity that was changed in
                # place still counts as the one that was read.
                if isinstance(value, (list, dict)):
                    is_read = value is self._seen.get(name)
                else:
                    is_read = same(value_pb, value)
                if is_read:
                    self._read_meanings[name] = (meaning, value)
        meanings: dict[str, Any] = self._read_meanings
        return meanings

    @_meanings.setter
    def _meanings(self, meanings: dict[str, Any]) -> None:
        self._read_meanings = meanings
        self._more_than_values = True

    def _read(self, name: str, default: Any = UNREAD) -> Any:
        """Read a property that is not decoded yet. Raises KeyError without a default."""
        try:
            data = self._properties.get(name) if isinstance(name, str) else None
        except UnicodeError:  # not a name that a message could hold
            data = None
        if data is None or (self._named and not dict.__contains__(self, name)):
            if default is UNREAD:
                raise KeyError(name)
            return default
        value = read_plain(data)
        if value is NOT_PLAIN:
            try:
                value_pb = _parsed(data)
                which = value_pb.WhichOneof("value_type")
                if which not in PLAIN:
                    return self._read_deep(name, value_pb, which)
                value = getattr(value_pb, which)
            except (ValueError, OverflowError, DecodeError) as error:
                raise ValueError(f"property {name!r} cannot be read: {error}") from error
        _setitem(self, name, value)
        self._seen[name] = value
        return value

    def _read_deep(self, name: str, value_pb: Pb, which: str) -> Any:
        """Decode a value that may be mutable. All threads get the object that was stored first."""
        value = DECODERS[which](value_pb)
        with _filling:
            there = _get(self, name, UNREAD)
            if there is not UNREAD:
                return there
            if self._values is None:
                self._values = {}
            self._values[name] = value_pb
            self._seen[name] = value
            _setitem(self, name, value)
        return value

    def _read_all(self) -> None:
        for name in self._unread():
            self._read(name)

    def _read_readable(self) -> None:
        for name in self._unread():
            with suppress(ValueError):  # stays unread, and raises when it is read by name
                self._read(name)

    def _unread(self) -> list[str]:
        self._name_all()
        return [name for name, value in _storage(self) if value is UNREAD]

    def __getitem__(self, name: str) -> Any:
        value = _get(self, name, UNREAD)
        return self._read(name) if value is UNREAD else value

    def get(self, name: str, default: Any = None) -> Any:
        value = _get(self, name, UNREAD)
        return self._read(name, default) if value is UNREAD else value

    def setdefault(self, name: str, default: Any = None) -> Any:
        self._name_all()
        value = dict.setdefault(self, name, default)
        return self._read(name) if value is UNREAD else value

    def pop(self, name: str, *default: Any) -> Any:
        self._name_all()
        if _get(self, name) is UNREAD:
            self._read(name)
        return dict.pop(self, name, *default)

    def popitem(self) -> tuple[str, Any]:
        for last in reversed(self):
            self[last]
            break
        return dict.popitem(self)

    def __delitem__(self, name: str) -> None:
        self._name_all()
        dict.__delitem__(self, name)

    def clear(self) -> None:
        self._named = True
        dict.clear(self)

    def __contains__(self, name: object) -> bool:
        if dict.__contains__(self, name):
            return name is not UNREAD
        if self._named or not isinstance(name, str):
            return False
        try:
            return name in self._properties
        except UnicodeError:  # not a name that a message could hold
            return False

    def __len__(self) -> int:
        self._name_all()
        return dict.__len__(self)

    def __iter__(self) -> Iterator[str]:
        self._name_all()
        return dict.__iter__(self)

    def __reversed__(self) -> Iterator[str]:
        self._name_all()
        return dict.__reversed__(self)

    def keys(self) -> Any:
        self._name_all()
        return dict.keys(self)

    def items(self) -> Any:
        self._read_all()
        return dict.items(self)

    def values(self) -> Any:
        self._read_all()
        return dict.values(self)

    def __eq__(self, other: object) -> Any:
        # Decode even for a plain dict: Python then asks that dict, which reads our storage.
        self._read_all()
        if isinstance(other, LazyEntity):
            other._read_all()
        return Entity.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        self._read_readable()
        return str(Entity.__repr__(self))

    fromkeys = Entity.fromkeys

    def __copy__(self) -> LazyEntity:
        # A shallow copy shares lists and sets, so they must exist first.
        self._read_readable()
        self._has_twin = True
        _ = self.exclude_from_indexes, self._meanings
        twin = LazyEntity.__new__(LazyEntity)
        dict.update(twin, _storage(self))
        for name in _SLOTS:
            setattr(twin, name, getattr(self, name))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyEntity:
        self._has_twin = True
        twin = LazyEntity.__new__(LazyEntity)
        memo[id(self)] = twin
        # Share the messages, so that the copy can be patched, too, but never again in place.
        for message in (
            self._pb, self._properties, self._origin, *(self._values or {}).values(),
            *(message for message, _ in (self._carried or {}).values()),
        ):  # fmt: skip
            memo[id(message)] = message
        self._name_all()
        for name, value in _storage(self):
            _setitem(twin, name, value if value is UNREAD else deepcopy(value, memo))
        for name in _SLOTS:
            setattr(twin, name, deepcopy(getattr(self, name), memo))
        twin.__dict__.update(deepcopy(self.__dict__, memo))
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as a plain Entity: messages cannot be pickled."""
        state = {name: value for name, value in self.__dict__.items() if name not in _OWN}
        state["key"] = self.key
        state["exclude_from_indexes"] = self.exclude_from_indexes
        state["_meanings"] = self._meanings
        return Entity, (), state, None, iter(self.items())


_OWN = frozenset(
    {
        "_named", "_values", "_origin", "_unsent", "_has_twin", "_key", "_read_key", "_excluded",
        "_read_meanings", "_more_than_values", "_carried",
    }
)  # fmt: skip


def value_message(entity: LazyEntity, name: str) -> Pb:
    """The Value message of a property as it was read."""
    pb = entity._values.get(name) if entity._values else None
    if pb is None:
        try:
            pb = _parsed(entity._properties[name])
        except DecodeError as error:
            raise ValueError(f"property {name!r} cannot be read: {error}") from error
    return pb


def carried_message(entity: LazyEntity, name: str, value: Any) -> Pb | None:
    """The Value message of a property that was moved from another name, as it was read there. None
    if it was not moved, or has another value by now."""
    message, carried = (entity._carried or {}).get(name, (None, UNREAD))
    return message if carried is value else None


def page_entity(entity: LazyEntity) -> Pb:
    """The PageEntity of an entity; do not modify it."""
    return entity._pb


def read_message(entity: LazyEntity) -> Pb:
    """The Entity message an entity was read as or, if patched in place, was last put as."""
    return EntityPb.FromString(entity._pb.SerializeToString())


def read_key(entity: LazyEntity) -> Pb | None:
    """The Key message an entity was read with."""
    pb = entity._pb
    return KeyPb.FromString(pb.key) if pb.HasField("key") else None


def has_come_to_nothing(entity: LazyEntity) -> None:
    """Note that the put that patched the entity's message will not be sent, so the message differs
    from what is stored."""
    entity._unsent = True


def read_version(entity: LazyEntity) -> int:
    """The version an entity was read at; 0 if unknown."""
    return entity._version


def has_key(entity: LazyEntity) -> bool:
    key = entity._key
    return bool(entity._pb.HasField("key")) if key is UNREAD else key is not None


def is_moved(entity: LazyEntity) -> bool:
    """Whether the entity's key differs from the one it was read with."""
    key = entity._key
    if key is entity._read_key:
        return False
    read = read_key(entity)
    if key is None or read is None:
        return read is not None or key is not None
    return bool(key_to_pb(key) != read)


DECODERS["entity_value"] = lambda pb: LazyEntity(pb.entity_value)
