"""What a process forgets when it dies: the variables of the updater's module and its classes.

A crash test stays in one process. So what a handler collects in a module's list, set or counter
would survive every crash in the test, but no crash in production.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

from bulkup.authoring.updater import Updater

_LEAVES = (int, float, complex, bool, str, bytes, type(None))
_CONTAINERS = (list, dict, set, bytearray, deque, Counter, OrderedDict, defaultdict)


class Memory:
    """The data in the module and the classes of an updater, as they are now.

    Data are numbers, strings, `itertools.count`, and the built-in containers. Clients, functions
    and objects of other classes are left alone.
    """

    def __init__(self, definition: Any) -> None:
        module = sys.modules.get(getattr(definition, "__module__", None) or "")
        owners: list[Any] = [] if module is None else [module]
        if isinstance(definition, type):
            mine = definition.__mro__[: definition.__mro__.index(Updater)]
            owners += [one for one in mine if not one.__module__.startswith("bulkup.")]
        self._saved = [
            (owner, {name: (value, _copy(value)) for name, value in _data_of(owner)})
            for owner in owners
        ]

    def forget(self) -> None:
        """Restore the saved data, as in a process that has just started."""
        for owner, saved in self._saved:
            for name, _ in _data_of(owner):
                if name not in saved:
                    delattr(owner, name)
            for name, (value, copied) in saved.items():
                if isinstance(value, _CONTAINERS):
                    _refill(value, copied)  # in place: others may have imported it
                    now = value
                else:
                    now = _copy(copied)
                if vars(owner).get(name) is not now:
                    setattr(owner, name, now)


def _data_of(owner: Any) -> list[tuple[str, Any]]:
    """The variables of a module or a class that hold data."""
    named = list(vars(owner).items())
    return [(n, value) for n, value in named if not n.startswith("__") and _is_data(value)]


def _is_data(value: Any) -> bool:
    return type(value) in (*_LEAVES, *_CONTAINERS, tuple, frozenset, itertools.count)


def _copy(value: Any) -> Any:
    """A copy of all nested containers; the other objects in them are shared."""
    if type(value) in (list, tuple, set, frozenset, deque):
        copied = copy.copy(value)
        if isinstance(value, (list, deque)):
            for at, one in enumerate(value):
                copied[at] = _copy(one)
            return copied
        return type(value)(map(_copy, value)) if isinstance(value, tuple) else copied
    if type(value) in (dict, Counter, OrderedDict, defaultdict):
        copied = copy.copy(value)
        for name, one in value.items():
            copied[name] = _copy(one)
        return copied
    return copy.copy(value) if type(value) in (bytearray, itertools.count) else value


def _refill(value: Any, saved: Any) -> None:
    fresh = _copy(saved)
    if isinstance(value, bytearray):
        value[:] = fresh
        return
    value.clear()
    if isinstance(value, (dict, set)):
        dict.update(value, fresh) if isinstance(value, dict) else value.update(fresh)
    else:
        value.extend(fresh)
