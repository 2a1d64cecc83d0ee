"""Chains: an updater may name its successor, which starts when its own run has finished.

The runs of a chain are `RUN`, `RUN+1`, `RUN+2`, ... A successor's id, and so the key of its record,
is derived from its predecessor's, so starting it twice creates only one run. One commit writes the
predecessor's end and the successor's record, which takes over the predecessor's claim. Until the
chain has ended, running the first updater again resumes the chain.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from bulkup.authoring.function_updater import SPEC_ATTRIBUTE
from bulkup.authoring.loader import UpdaterSource, describe, load
from bulkup.authoring.parameters import convert
from bulkup.authoring.updater import Then, Updater
from bulkup.core.errors import NotFoundError, ParameterError, UsageError


def named(definition: Any) -> Any:
    """The successor that an updater's definition names, or None."""
    if not isinstance(definition, type):
        return inspect.getattr_static(definition, SPEC_ATTRIBUTE).then
    value = inspect.getattr_static(definition, "then")
    return None if value is inspect.getattr_static(Updater, "then") else value


def wanted(source: UpdaterSource, updater: Updater) -> Then | None:
    """A finished run's successor: the one its updater chose, else the one it names, or None."""
    if updater._then is not None:
        return updater._then
    value = named(source.definition)
    return Then(value, {}) if value is not None else None


def relative_spec(then: Any, folder: str) -> str:
    """The successor's spec relative to its predecessor's folder, valid on any machine.

    Raises UsageError for anything but an updater.
    """
    if isinstance(then, str):
        return then
    spec = describe(then).spec
    where, colon, name = spec.rpartition(":")
    if os.path.isabs(where):
        where = os.path.relpath(where, folder)
        where = where if os.sep in where else os.path.join(os.curdir, where)
    return f"{where}{colon}{name}"


def locate(specs: Sequence[str], folder: str) -> str:
    """Follow a chain's specs, each relative to the folder of the one before."""
    found = ""
    for spec in specs:
        where, colon, name = spec.rpartition(":")
        if not colon:
            where, name = spec, ""
        if where.endswith(".py") or os.sep in where:
            where = os.path.normpath(os.path.join(folder, where))
            folder = os.path.dirname(where)
        else:
            try:
                module = find_spec(where)
            except (Exception, SystemExit):  # its package cannot be imported; `load` says why
                module = None
            if module is not None and module.origin:
                folder = os.path.dirname(module.origin)
        found = f"{where}:{name}" if name else where
    return found


def check(source: UpdaterSource) -> None:
    """Check all successors that definitions name, before the first run starts.

    Raises UsageError for a cycle or a parameter without a default, and what `load` raises.
    """
    seen = [source.spec]
    while (value := named(source.definition)) is not None:
        before, folder = source.name, os.path.dirname(source.path)
        try:
            source = load(locate([relative_spec(value, folder)], folder))
            convert(source, {})
        except NotFoundError as error:
            raise NotFoundError(f"the successor of {before}: {error.message}") from error
        except ParameterError as error:
            raise ParameterError(
                f"{source.name} follows {before} with its default parameters: {error.message}; "
                f"or {before} calls self.then({source.name}, ...) in finish"
            ) from error
        if source.spec in seen:
            raise UsageError(f"{source.name} would follow itself forever; fix its `then`")
        seen.append(source.spec)
