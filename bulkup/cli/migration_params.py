"""Parameters of migrations: `-p NAME:PARAM=VALUE`, and `migration_params` in the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bulkup.cli.settings import current_settings
from bulkup.core.errors import NotFoundError, ParameterError


def params_of_migrations(
    assignments: Iterable[str], names: Sequence[str], *, is_default: bool
) -> dict[str, dict[str, str]]:
    """Parameters by the name of their migration; typed ones win. `names`: the names of all
    migrations. `is_default`: no other folder was typed.

    Raises ParameterError, NotFoundError, UsageError.
    """
    from bulkup.authoring.parameters import parse_assignments
    from bulkup.migrations.folder import find_name

    typed: dict[str, list[str]] = {}
    for text in assignments:
        name, colon, assignment = text.partition(":")
        if not colon or "=" in name:
            example = names[0] if names else "0001_name"
            raise ParameterError(
                f"{text!r} does not say which migration it is for; write -p NAME:PARAM=VALUE, "
                f"such as -p {example}:{name if '=' in name else 'sep=-'}"
            )
        typed.setdefault(find_name(names, name), []).append(assignment)
    params = _configured(names, is_default=is_default)
    for name, own in typed.items():
        params[name] = {**params.get(name, {}), **parse_assignments(own)}
    return params


def _configured(names: Sequence[str], *, is_default: bool) -> dict[str, dict[str, str]]:
    settings = current_settings()
    if is_default:  # another folder has other migrations
        for name in settings.migration_params:
            if name not in names:
                raise NotFoundError(
                    f"in {settings.source}: migration_params.{name} is for a migration that is not "
                    f"in the folder; it has {', '.join(names) or 'none'}"
                )
    return {name: dict(p) for name, p in settings.migration_params.items() if name in names}
