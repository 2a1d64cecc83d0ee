"""What a configuration file may hold: the shared options by name, targets, and parameters.

Everything is checked here, including what the current command does not use, so that a mistake is
found by the first command, and not by the one that needs the setting.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import click

from bulkup.cli.config_file import ConfigFile
from bulkup.cli.engine_args import CopyEngineArgs, EngineArgs
from bulkup.cli.named_target import NamedTarget
from bulkup.cli.options import (
    Gate,
    Json,
    MailArgs,
    MaxDrift,
    NamespacesArgs,
    OutputArgs,
    StateDir,
    TargetArgs,
    Wait,
    Yes,
)
from bulkup.cli.reading_options import ReadingArgs
from bulkup.core.errors import UsageError
from bulkup.core.similar import likely_meant

MIGRATIONS = "migrations"
TARGETS = "targets"
PARAMS = "migration_params"
PRICES = "prices"
PATHS = ("state_dir", "local", MIGRATIONS)
TOP_LEVEL = {
    MIGRATIONS: "The folder of `bulkup migrate`, `rehearse`, `status`, `mark` and `unlock`."
}
"""Keys that are not options, and what each sets."""
_FLAGS = {
    "confirm": "`true`: each run on it asks, or needs `--yes`.",
    "require_approval": "`true`: a run on it needs an approved plan.",
}
_PRICE_STRINGS = {
    "region": "A region of the list prices: eur3, nam5, us-central1, us-west1 or us-west2.",
    "currency": "The currency of your own prices.",
}
TABLES = {
    f"{TARGETS}.NAME": (
        "A target that `--target NAME` names. It needs a project or a local file.",
        {
            "project": "Its Google Cloud project.",
            "database": "Its named database.",
            "namespace": "Its namespace.",
            "local": "A file of the embedded Datastore, instead of a project.",
            **_FLAGS,
        },
    ),
    f"{PARAMS}.MIGRATION": (
        "Parameters of a migration, by the names that the updater gives them. "
        "`bulkup migrate -p MIGRATION:NAME=VALUE` wins over them.",
        {},
    ),
    PRICES: (
        "What `bulkup plan` and `bulkup rehearse` calculate with.",
        {
            **_PRICE_STRINGS,
            "reads": "Your own price of 100,000 reads.",
            "writes": "Your own price of 100,000 writes.",
            "deletes": "Your own price of 100,000 deletes.",
        },
    ),
}
"""The tables: what each is for, and what each of its keys sets."""

_TARGET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SECRET = re.compile(r"passw|secret|token|api_?key|private_?key|credential", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/]*@")


GROUPS = (
    TargetArgs, NamespacesArgs, EngineArgs, CopyEngineArgs, ReadingArgs, MailArgs, OutputArgs,
)  # fmt: skip
_SINGLE: tuple[Any, ...] = (StateDir, Wait, Gate, MaxDrift, Yes, Json)


def _shared_options() -> dict[str, click.Option]:
    hints: list[Any] = list(_SINGLE)
    for group in GROUPS:
        hints += get_type_hints(group, include_extras=True).values()
    return {str(option.name): option for hint in hints for option in hint.__metadata__}


OPTIONS = _shared_options()
"""The options that commands share, by name: each is a key of the file."""
SHARED_IDS = {id(option) for hint in _SINGLE for option in hint.__metadata__}
"""Identifies shared options by object: an option of one command may have the name of a shared one
and mean something else."""


@dataclass(frozen=True)
class Settings:
    """What a configuration file says, checked."""

    source: str = ""
    """Where the settings are from, for messages; empty if there is no file."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """By the name of an option, or MIGRATIONS; as a user would type them."""
    targets: Mapping[str, NamedTarget] = field(default_factory=dict)
    migration_params: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    prices: Mapping[str, Any] = field(default_factory=dict)
    """Region, currency, and the prices of 100,000 reads, writes and deletes, as far as they are
    set."""


def read_settings(config: ConfigFile, shown_from: str) -> Settings:
    """Check a file. Paths in it are relative to it, and shown as seen from the folder `shown_from`.

    Raises UsageError.
    """
    reader = _Reader(config, Path(shown_from))
    known = [*OPTIONS, *TOP_LEVEL, TARGETS, PARAMS, PRICES]
    table = reader.keys(config.table, known, "")
    targets = {
        name: reader.target(name, value)
        for name, value in reader.table(table.pop(TARGETS, {}), TARGETS).items()
    }
    params = {
        name: reader.params(name, value)
        for name, value in reader.table(table.pop(PARAMS, {}), PARAMS).items()
    }
    prices = reader.prices(table.pop(PRICES, {}))
    values = {name: reader.value(name, value, name) for name, value in table.items()}
    return Settings(str(config), values, targets, params, prices)


class _Reader:
    def __init__(self, config: ConfigFile, shown_from: Path) -> None:
        self._config = config
        self._shown_from = shown_from

    def keys(self, table: Mapping[str, Any], known: list[str], prefix: str) -> dict[str, Any]:
        """The table, with `-` in its keys replaced by `_`. Each key must be known, and set once."""
        found: dict[str, Any] = {}
        for key, value in table.items():
            name = key.replace("-", "_")
            if name not in known:
                raise self._error(self._unknown(key, name, known, prefix))
            if name in found:
                raise self._error(f"{prefix}{name} is set twice, with - and with _; keep one")
            found[name] = value
        return found

    def table(self, value: Any, key: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(key, value, f"a table; write [{self._prefix}{key}.NAME]")
        return value

    def value(self, name: str, value: Any, key: str) -> Any:
        """A value in the form that its option takes."""
        option: click.Parameter | None = OPTIONS.get(name)
        if option is not None and getattr(option, "is_flag", False):
            return self._typed(key, value, isinstance(value, bool), "true or false")
        if option is not None and getattr(option, "count", False):
            is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            return self._typed(key, value, is_count, "a whole number such as 1")
        if option is not None and option.multiple:
            items = [value] if isinstance(value, str) else value
            is_list = isinstance(items, list) and all(isinstance(i, str) for i in items)
            self._typed(key, value, is_list, "a string, or a list of strings")
            return tuple(self._text(key, item) for item in items)
        if isinstance(option.type if option else click.STRING, (click.types.StringParamType,
                      click.Path)) or name in (MIGRATIONS, "target"):  # fmt: skip
            self._typed(key, value, isinstance(value, str), "a string")
            text = self._text(key, value)
            return self._path(text) if name in PATHS else text
        assert option is not None
        is_scalar = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        if isinstance(option.type, click.types.IntParamType):
            whole = isinstance(value, int) and is_scalar
            self._typed(key, value, whole, "a whole number")
        else:
            self._typed(key, value, is_scalar, "a number or a string")
        text = self._text(key, str(value))
        try:
            option.type.convert(text, None, None)
        except click.UsageError as error:
            raise self._error(f"{key}: {error.message}") from error
        return text

    def target(self, name: str, value: Any) -> NamedTarget:
        key = f"{TARGETS}.{name}"
        if not _TARGET_NAME.fullmatch(name):
            raise self._error(
                f"{name!r} is not a valid name for a target; use letters, digits, '_', '-' and '.'"
            )
        if not isinstance(value, dict):
            raise self._wrong(key, value, f'a table; write [{self._prefix}{key}] project = "..."')
        table = self.keys(value, [*TABLES[f"{TARGETS}.NAME"][1]], f"{key}.")
        asked = {flag: table.pop(flag, False) for flag in _FLAGS}
        for flag, flag_value in asked.items():
            is_bool = isinstance(flag_value, bool)
            self._typed(f"{key}.{flag}", flag_value, is_bool, "true or false")
        values = {field: self.value(field, v, f"{key}.{field}") for field, v in table.items()}
        if not (values.get("project") or values.get("local")):
            raise self._error(f"{key} names neither a project nor a local file; add one")
        if "local" in values:
            values["local"] = str(Path(self._shown_from, values["local"]))
        return NamedTarget(name, **values, **asked)

    def prices(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(PRICES, value, f"a table; write [{self._prefix}{PRICES}]")
        table = self.keys(value, [*TABLES[PRICES][1]], f"{PRICES}.")
        for name, price in table.items():
            key = f"{PRICES}.{name}"
            if name in _PRICE_STRINGS:
                self._typed(key, price, isinstance(price, str), "a string")
                self._text(key, price)
            else:
                is_price = isinstance(price, (int, float)) and not isinstance(price, bool)
                is_price = is_price and 0 <= price < math.inf
                self._typed(key, price, is_price, "the price of 100,000, such as 0.06")
        return table

    def params(self, migration: str, value: Any) -> dict[str, str]:
        key = f"{PARAMS}.{migration}"
        if not isinstance(value, dict):
            raise self._wrong(key, value, f"a table of parameters; write [{self._prefix}{key}]")
        return {name: self._parameter(f"{key}.{name}", v) for name, v in value.items()}

    def _parameter(self, key: str, value: Any) -> str:
        """A value as in `-p NAME=VALUE`, where dates and lists are strings."""
        if isinstance(value, bool):
            return str(value).lower()
        is_scalar = isinstance(value, (str, int, float))
        self._typed(key, value, is_scalar, "a string, a number, true or false")
        return self._text(key, str(value))

    @property
    def _prefix(self) -> str:
        return "tool.bulkup." if self._config.is_shared else ""

    def _path(self, text: str) -> str:
        path = os.path.normpath(self._config.path.parent / os.path.expanduser(text))
        inside = Path(path).is_relative_to(self._shown_from)
        return os.path.relpath(path, self._shown_from) if inside else path

    def _text(self, key: str, value: str) -> str:
        if not value and key.split(".")[-1] not in ("database", "namespace"):
            raise self._error(f"{key} is empty; give it a value, or leave it out")
        if "\0" in value:
            raise self._error(f"{key} holds a NUL character; remove it")
        if _PASSWORD_IN_URL.match(value):
            raise self._error(
                f"{key} holds a password, and files get committed; leave it out of the URL and set "
                "BULKUP_SMTP_PASSWORD in the environment"
            )
        return value

    def _typed(self, key: str, value: Any, ok: bool, wanted: str) -> Any:
        if not ok:
            raise self._wrong(key, value, wanted)
        return value

    def _wrong(self, key: str, value: Any, wanted: str) -> UsageError:
        return self._error(f"{key} is {_kind_of(value)}; it must be {wanted}")

    def _unknown(self, key: str, name: str, known: list[str], prefix: str) -> str:
        if _SECRET.search(key):
            where = (
                "the password of the mail server in BULKUP_SMTP_PASSWORD"
                if re.search("smtp|mail|passw", key, re.IGNORECASE)
                else "Google credentials as `gcloud auth application-default login` leaves them, "
                "or in GOOGLE_APPLICATION_CREDENTIALS"
            )
            return (
                f"{prefix}{key!s} looks like a secret, and files get committed; remove it, and put "
                f"it into the environment ({where})"
            )
        if name == "tool" and not prefix:
            return f"{key} has no place here; write what [tool.bulkup] would hold at the top level"
        if name in ("param", "params", "new", "dry_run", "limit_to") and not prefix:
            return f"{prefix}{key} cannot be set for all runs; give it on the command line"
        close = likely_meant(name, known)
        if close:
            return f"there is no setting {prefix}{key}; did you mean {close[0]}?"
        return f"there is no setting {prefix}{key}; `bulkup config` lists them"

    def _error(self, message: str) -> UsageError:
        return UsageError(f"in {self._config}: {message}")


_KINDS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (bool, lambda v: str(v).lower()),
    (str, lambda v: "a string"),
    (int, lambda v: f"the number {v}"),
    (float, lambda v: f"the number {v}"),
    (list, lambda v: "a list"),
    (dict, lambda v: "a table"),
)


def _kind_of(value: Any) -> str:
    """What a value is, without a string's content: it may be a secret."""
    return next((say(value) for kind, say in _KINDS if isinstance(value, kind)), "a date or time")
