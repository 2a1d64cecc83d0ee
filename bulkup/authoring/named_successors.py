"""Which successors an updater's code names.

A run record lists the links of its chain, so that any machine can resume it. But a record is data:
anyone with write access to the Datastore may have written it, and loading what it names would
execute a file of their choice. So a link is followed only if the loaded code names it, too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from inspect import getattr_static
from types import CodeType, FunctionType, ModuleType
from typing import Any

from bulkup.authoring.loader import UpdaterSource, load
from bulkup.authoring.successors import locate, named, relative_spec
from bulkup.core.errors import MismatchError, UsageError

AGAIN = "="
"""The link from an updater to itself: another pass over the same work."""


def follow(source: UpdaterSource, links: Sequence[str], *, own_links: Collection[str] = ()) -> str:
    """Load a chain up to the updater before its last link; return the spec of the last one.

    `own_links`: links that this process recorded itself, so the code need not name them. Raises
    MismatchError for a link that the code does not name, and what `load` raises.
    """
    spec = source.spec
    for link in links:
        if link == AGAIN:
            continue
        if spec != source.spec:
            source = load(spec)
        if link not in own_links and not names(source, link):
            raise MismatchError(
                f"the run record says that {source.name} is followed by {link!r}, but "
                f"{source.path} does not name it; restore the code (and give `self.then` the "
                "updater or its literal name), or start a new run (--new)"
            )
        spec = locate([link], os.path.dirname(source.path))
    return spec


def names(source: UpdaterSource, link: str) -> bool:
    """Whether the updater's code names this successor, as `then` or in a method."""
    folder = os.path.dirname(source.path)
    declared = named(source.definition)
    if declared is not None and _links_to(declared, link, folder):
        return True
    module = sys.modules.get(getattr(source.definition, "__module__", ""))
    words, texts = _mentioned(source.definition, module)
    if link in texts:
        return True
    for value in _values(source.definition, module, words):
        if _links_to(value, link, folder):
            return True
        if isinstance(value, ModuleType) and any(
            _links_to(getattr_static(value, word, None), link, folder) for word in words
        ):
            return True
    where, _, name = link.rpartition(":")  # imported within a method
    return name in words and (where in words or os.path.basename(where)[:-3] in words)


def _links_to(value: Any, link: str, folder: str) -> bool:
    try:
        return value is not None and relative_spec(value, folder) == link
    except UsageError:
        return False  # not an updater


def _values(definition: Any, module: ModuleType | None, words: Collection[str]) -> Iterator[Any]:
    """The values that these names have in the updater's class and in its module."""
    for word in words:
        yield getattr_static(definition, word, None)
        if module is not None:
            yield vars(module).get(word)


def _mentioned(definition: Any, module: ModuleType | None) -> tuple[set[str], set[str]]:
    """The names and the strings in the code of an updater and of its module's functions."""
    words: set[str] = set()
    texts: set[str] = set()
    pending: list[Any] = [function.__code__ for function in _functions(definition, module)]
    while pending:
        constant = pending.pop()
        if isinstance(constant, CodeType):
            words.update(constant.co_names)
            pending += constant.co_consts
        elif isinstance(constant, (tuple, frozenset)):
            pending += constant
        elif isinstance(constant, str):
            texts.add(constant)
    return words, texts


def _functions(definition: Any, module: ModuleType | None) -> Iterator[FunctionType]:
    """The functions of the user's own code: names in libraries do not count."""
    own = getattr(definition, "__mro__", [definition])
    spaces = [vars(one) for one in own if one.__module__.partition(".")[0] != "bulkup"]
    if module is not None:
        spaces.append(vars(module))
    modules = {one.__module__ for one in own}
    for space in spaces:
        for value in space.values():
            function = getattr(value, "__wrapped__", value)
            if isinstance(function, (staticmethod, classmethod)):
                function = function.__func__
            if isinstance(function, FunctionType) and function.__module__ in modules:
                yield function
