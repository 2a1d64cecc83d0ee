"""Which Datastore: project, database, namespace, an emulator or the real service."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any

from bulkup.core.errors import TargetError, UsageError
from bulkup.core.model import TargetInfo
from bulkup.datastore.rpc_errors import NO_CREDENTIALS

EMULATOR_VARIABLE = "DATASTORE_EMULATOR_HOST"

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_NO_PROJECT = "no project is set: give --project, or set GOOGLE_CLOUD_PROJECT"


@dataclass(frozen=True)
class Target:
    """A resolved target: what it is, and an official client for it."""

    info: TargetInfo
    client: Any
    """google.cloud.datastore.Client"""
    one_of_many: bool = False
    """Work goes through several namespaces: a query that names one by itself would be run for
    each of them, on the same entities."""

    @property
    def is_real(self) -> bool:
        """Data that matters to somebody: neither an emulator nor an embedded Datastore."""
        return not (self.info.emulator or self.info.local)

    def within(self, namespace: str) -> Target:
        """The same, in another namespace; nothing is resolved again."""
        from google.cloud.datastore import Client

        from bulkup.datastore.google_private import copy_of

        client = copy_of(self.client, Client)
        client.namespace = namespace or None
        return Target(replace(self.info, namespace=namespace), client, one_of_many=True)


def emulator_host() -> str:
    """The emulator that the environment names, or nothing. Raises UsageError for no address."""
    host = os.environ.get(EMULATOR_VARIABLE, "")
    if host and not _ADDRESS.fullmatch(host):
        raise UsageError(
            f"{EMULATOR_VARIABLE} is {host!r}; it takes host:port alone, like localhost:8081"
        )
    return host


def resolve(
    project: str | None = None,
    database: str | None = None,
    namespace: str | None = None,
    *,
    local: str = "",
    address: str = "",
) -> Target:
    """Find the target as `google.cloud.datastore.Client()` would.

    `address` is where the embedded Datastore of the file `local` answers. Raises TargetError
    without a project or credentials, UsageError for names that cannot be.
    """
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.datastore import Client

    for option, value in (("--project", project), ("--database", database)):
        if value and any(c.isspace() or c in "/?#" for c in value):
            raise UsageError(
                f"{option} {value!r} is not a name; give the id as the console shows it"
            )
    if local:
        # Through the variable, so that a client which the updater makes for itself gets here too.
        os.environ[EMULATOR_VARIABLE] = address
    emulator = emulator_host()
    try:
        client = Client(
            project=(project or "local") if local else project,
            namespace=namespace or None,
            database=database or None,
        )
    except GoogleAuthError as error:
        if emulator and not project:  # where no credentials are needed, it was asked for these
            raise TargetError(_NO_PROJECT, details=str(error)) from error
        raise TargetError(NO_CREDENTIALS, details=str(error)) from error
    except OSError as error:
        raise TargetError(_NO_PROJECT, details=str(error)) from error
    info = TargetInfo(
        project=client.project,
        database=client.database or "",
        namespace=client.namespace or "",
        emulator="" if local else emulator,
        local=os.path.abspath(local) if local else "",
    )
    return Target(info, client)
