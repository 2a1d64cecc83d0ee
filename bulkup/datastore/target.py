"""Which Datastore to use: project, database, namespace; the service, an emulator or a file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any

from bulkup.core.environment import settled
from bulkup.core.errors import NoTargetError, UsageError
from bulkup.core.model import TargetInfo
from bulkup.datastore.causes import credentials_problem, is_loopback, spare_loopback_the_proxy

EMULATOR_VARIABLE = "DATASTORE_EMULATOR_HOST"

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_NO_PROJECT = "no project is set; use --project, or set GOOGLE_CLOUD_PROJECT"


@dataclass(frozen=True)
class Target:
    """A resolved target and an official client for it."""

    info: TargetInfo
    client: Any
    """google.cloud.datastore.Client"""
    one_of_many: bool = False
    """The same work is done in several namespaces, so a query must not name one itself: it would
    run once for each namespace, on the same entities."""

    def within(self, namespace: str) -> Target:
        """The same target in another namespace; nothing is resolved again."""
        from google.cloud.datastore import Client

        from bulkup.datastore.google_private import copy_of

        client = copy_of(self.client, Client)
        client.namespace = namespace or None
        return Target(replace(self.info, namespace=namespace), client, one_of_many=True)


def emulator_host() -> str:
    """The emulator's address from the environment, or an empty string.

    Raises UsageError if it is not an address.
    """
    host = os.environ.get(EMULATOR_VARIABLE, "")
    if host and not _ADDRESS.fullmatch(host):
        raise UsageError(
            f"{EMULATOR_VARIABLE} is {host!r}; use only host:port, for example localhost:8081"
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
    """Resolve the target as `google.cloud.datastore.Client()` would.

    `address` is where the embedded Datastore of the file `local` listens. Raises NoTargetError
    without a project or credentials, UsageError for invalid names.
    """
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.datastore import Client

    for option, value in (("--project", project), ("--database", database)):
        if value and any(c.isspace() or c in "/?#" for c in value):
            raise UsageError(
                f"{option} {value!r} is not a valid name; use the id that the console shows"
            )
    emulator = "" if local else emulator_host()
    if is_loopback(address or emulator):
        spare_loopback_the_proxy()
    try:
        # The official client takes the address of an emulator only from the environment.
        with settled({EMULATOR_VARIABLE: address} if local else {}):
            client = Client(
                project=(project or "local") if local else project,
                namespace=namespace or None,
                database=database or None,
            )
    except GoogleAuthError as error:
        if emulator and not project:  # an emulator needs no credentials; finding the project does
            raise NoTargetError(_NO_PROJECT, details=str(error)) from error
        raise NoTargetError(credentials_problem(str(error)), details=str(error)) from error
    except OSError as error:
        raise NoTargetError(_NO_PROJECT, details=str(error)) from error
    info = TargetInfo(
        project=client.project,
        database=client.database or "",
        namespace=client.namespace or "",
        emulator=emulator,
        local=os.path.abspath(local) if local else "",
    )
    return Target(info, client)
