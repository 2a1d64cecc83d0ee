"""Chains: an updater may name its successor, which begins when its own run has finished.

The runs of a chain are `RUN`, `RUN+1`, `RUN+2`, ...: a successor's id, and so the key of its
record, follows from its predecessor's, which makes it one however often it is begun. Its record is
written by the very commit that writes the predecessor's end, and takes the predecessor's claim
over: until the chain has ended, whoever runs the first updater again goes on with the chain.
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
    """The successor that an updater class or function names by itself, or None."""
    if not isinstance(definition, type):
        return inspect.getattr_static(definition, SPEC_ATTRIBUTE).then
    value = inspect.getattr_static(definition, "then")
    return None if value is inspect.getattr_static(Updater, "then") else value


def wanted(source: UpdaterSource, updater: Updater) -> Then | None:
    """The successor of a finished run: the one asked for with `then`, or the one named."""
    if updater._then is not None:
        return updater._then
    value = named(source.definition)
    return Then(value, {}) if value is not None else None


def relative_spec(then: Any, folder: str) -> str:
    """How a successor is found from its predecessor's folder, on any machine.

    Raises UsageError for what is no updater.
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
    """Follow the links of a chain, each relative to the folder of the one before."""
    found = ""
    for spec in specs:
        where, colon, name = spec.rpartition(":")
        if not colon:
            where, name = spec, ""
        if where.endswith(".py") or os.sep in where:
            where = os.path.normpath(os.path.join(folder, where))
            folder = os.path.dirname(where)
        else:
            module = find_spec(where)
            if module is not None and module.origin:
                folder = os.path.dirname(module.origin)
        found = f"{where}:{name}" if name else where
    return found


def check(source: UpdaterSource) -> None:
    """Look at the successors that updaters name by themselves before the first one begins.

    Raises UsageError for a circle and a parameter without a default, and what `load` raises.
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
            raise UsageError(f"{source.name} would follow itself for ever; mend `then`")
        seen.append(source.spec)
