"""`--target NAME`: a target that the configuration file names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from bulkup.cli.config_file import SHARED_NAME, SHARED_TABLE

if TYPE_CHECKING:
    from bulkup.core.model import TargetInfo

_TARGETS = "bulkup.targets"
_SOURCE = "bulkup.config"
_CHOSEN = "bulkup.target"


@dataclass(frozen=True)
class NamedTarget:
    """A target in the configuration file. A field that is None: as without `--target`."""

    name: str
    project: str | None = None
    database: str | None = None
    namespace: str | None = None
    local: str | None = None
    confirm: bool = False
    """A run on it must be confirmed, by `--yes` where there is no terminal."""
    require_approval: bool = False
    """A run on it must carry out an approved plan (`bulkup approve`)."""

    def is_part_of(self, info: TargetInfo) -> bool:
        """Whether work on `info` is work on this target, however it was named."""
        return (
            self.local in (None, info.local)
            and (bool(self.local) or not info.local)
            and self.project in (None, info.project)
            and self.database in (None, info.database)
            and self.namespace in (None, info.namespace)
        )

    def __str__(self) -> str:
        parts = [
            f"{what} {value}"
            for what, value in (
                ("project", self.project),
                ("database", self.database),
                ("namespace", self.namespace),
                ("in", self.local),
            )
            if value is not None
        ]
        parts += ["asks for confirmation"] if self.confirm else []
        parts += ["asks for an approved plan"] if self.require_approval else []
        return ", ".join(parts)


def offer(ctx: click.Context, targets: Mapping[str, NamedTarget], source: str) -> None:
    """Let this command's `--target` name one of these targets. `source`: where they are defined."""
    ctx.meta[_TARGETS] = targets
    ctx.meta[_SOURCE] = source


def to_confirm(info: TargetInfo) -> NamedTarget | None:
    """The target with `confirm = true` that the current command works on, however it was named."""
    return _first(info, lambda target: target.confirm)


def asks_for_approval(info: TargetInfo) -> str | None:
    """`target prod`, if the current command works on it and it has `require_approval = true`."""
    found = _first(info, lambda target: target.require_approval)
    return f"target {found.name}" if found is not None else None


def _first(info: TargetInfo, asks: Callable[[NamedTarget], bool]) -> NamedTarget | None:
    ctx = click.get_current_context(silent=True)
    if ctx is None:
        return None
    chosen = ctx.meta.get(_CHOSEN)
    if chosen is not None and asks(chosen):
        return chosen  # type: ignore[no-any-return]
    targets: Mapping[str, NamedTarget] = ctx.meta.get(_TARGETS, {})
    return next((t for t in targets.values() if asks(t) and t.is_part_of(info)), None)


class TargetName(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """A name in the configuration file -> NamedTarget; `check_chosen` refuses an unknown one."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, NamedTarget):
            return value
        known: Mapping[str, NamedTarget] = ctx.meta.get(_TARGETS, {}) if ctx else {}
        target = known.get(value) or NamedTarget(value)
        if ctx is not None:
            ctx.meta[_CHOSEN] = target
        return target


def check_chosen(ctx: click.Context) -> None:
    """Raise click.UsageError if the command's `--target` is not defined in the configuration
    file."""
    chosen: NamedTarget | None = ctx.meta.get(_CHOSEN)
    known: Mapping[str, NamedTarget] = ctx.meta.get(_TARGETS, {})
    if chosen is not None and known.get(chosen.name) != chosen:
        raise click.UsageError(unknown_target(chosen.name, known, ctx.meta.get(_SOURCE)), ctx)


def find_target(ctx: click.Context, name: str) -> NamedTarget:
    """A target defined in the configuration file. Raises click.UsageError."""
    known: Mapping[str, NamedTarget] = ctx.meta.get(_TARGETS, {})
    if name not in known:
        raise click.UsageError(unknown_target(name, known, ctx.meta.get(_SOURCE)), ctx)
    return known[name]


def unknown_target(name: str, targets: Mapping[str, NamedTarget], source: str | None) -> str:
    """The error message for a name that is not a target."""
    if not targets:
        where = f"{source} defines none" if source else "there is no configuration file"
        return (
            f"there is no target {name!r}: {where}; define it as {_table(name, source)}"
            if name.isidentifier()
            else f"{name!r} is not the name of a target; {where}"
        )
    close = difflib.get_close_matches(name, targets, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else f"; they are: {', '.join(targets)}"
    return f"there is no target {name!r} in {source}{meant}"


def _table(name: str, source: str | None) -> str:
    """Where to define the target. Only one file may configure bulkup: the existing one, if any."""
    if not source or source.endswith(SHARED_TABLE):
        return f"{SHARED_TABLE[:-1]}.targets.{name}] in {SHARED_NAME}"
    return f"[targets.{name}] in {os.path.basename(source)}"
