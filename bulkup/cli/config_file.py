"""Finds and reads the configuration file: bulkup.toml, or [tool.bulkup] in pyproject.toml.

The nearest file counts, from the current directory upwards, but not above the root of the
repository (the folder that has `.git`) or the home directory. Above those are folders such as /tmp,
where other users may leave a file that sends a run to another project. For the same reason, a file
must belong to somebody we trust anyway: the user, root, or the owner of the current directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bulkup.core.errors import UsageError

VARIABLE = "BULKUP_CONFIG"
"""The environment variable that names a file instead; /dev/null is a file without settings."""

OWN_NAME = "bulkup.toml"
SHARED_NAME = "pyproject.toml"
SHARED_TABLE = "[tool.bulkup]"
MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ConfigFile:
    path: Path
    table: Mapping[str, Any] = field(repr=False)

    @property
    def is_shared(self) -> bool:
        return self.path.name == SHARED_NAME

    def __str__(self) -> str:
        return f"{self.path} {SHARED_TABLE}" if self.is_shared else str(self.path)


def find_config(start: str, environ: Mapping[str, str]) -> ConfigFile | None:
    """The configuration file for the directory `start`. Raises UsageError."""
    named = environ.get(VARIABLE)
    if named:
        path = Path(start, named)
        if not path.exists() or path.is_dir():
            raise UsageError(
                f"{VARIABLE} names {named!r}, which is not a file; correct or unset it"
            )
        return _read(path) or ConfigFile(path, {})
    if not start:
        return None  # the current directory was deleted
    home = os.path.realpath(os.path.expanduser("~"))
    trusted = {0, os.getuid(), os.stat(start).st_uid}
    for folder in (Path(start), *Path(start).parents):
        found = _in_folder(folder, trusted)
        if found is not None or str(folder) == home or (folder / ".git").exists():
            return found
    return None


def _in_folder(folder: Path, trusted: set[int]) -> ConfigFile | None:
    found = []
    for name in (OWN_NAME, SHARED_NAME):
        path = folder / name
        if path.is_file():
            config = _read(path)
            if config is not None:
                _check_owner(path, trusted)
                found.append(config)
    if len(found) > 1:
        raise UsageError(
            f"{found[0]} and {found[1]} both configure bulkup; move the settings into one of them"
        )
    return found[0] if found else None


def _check_owner(path: Path, trusted: set[int]) -> None:
    # Check the owner of the link and of the file: either owner decides what is read.
    if not {path.lstat().st_uid, path.stat().st_uid} <= trusted:
        raise UsageError(
            f"{str(path)!r} belongs to another user and may send a run elsewhere, so it is not "
            f"used; if you trust it, set {VARIABLE}={path} in the environment, otherwise "
            f"{VARIABLE}=/dev/null"
        )


def _read(path: Path) -> ConfigFile | None:
    """Read and parse a file; None for a pyproject.toml that says nothing about bulkup."""
    is_shared = path.name == SHARED_NAME
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {str(path)!r} ({error.strerror}); make it readable, or name another file "
            f"with {VARIABLE}"
        ) from error
    if is_shared and b"bulkup" not in raw:
        return None
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{str(path)!r} is larger than 1 MiB, which no configuration file is")
    table = _parsed(path, raw)
    if not is_shared:
        return ConfigFile(path, table)
    tool = table.get("tool")
    if not isinstance(tool, dict) or "bulkup" not in tool:
        return None
    if not isinstance(tool["bulkup"], dict):
        raise UsageError(f"in {path}, tool.bulkup must be a table; write {SHARED_TABLE}")
    return ConfigFile(path, tool["bulkup"])


def _parsed(path: Path, raw: bytes) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(path)!r} is not valid TOML ({error}); fix it") from error
    except RecursionError as error:
        raise UsageError(f"{str(path)!r} is nested too deeply for a configuration file") from error
