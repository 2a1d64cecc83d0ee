"""Tags of requests, by which a bill can be broken down: `bulkup`, and `updater=NAME`."""

from __future__ import annotations

import re
from typing import Any

from bulkup.datastore.messages import CommitRequest

ARE_SUPPORTED = "request_options" in CommitRequest.DESCRIPTOR.fields_by_name
"""google-cloud-datastore has the field since 2.26.1."""

MAX_NAME = 100
"""Characters of the updater's name. The service cuts a tag at 510."""

_ODD = re.compile(r"[^A-Za-z0-9_.-]")


def tagged(updater: str = "") -> dict[str, Any]:
    """The fields of a request that tag it; empty if the installed client does not support tags."""
    if not ARE_SUPPORTED:
        return {}
    tags = ["bulkup"]
    if updater:
        tags.append(f"updater={_ODD.sub('_', updater[:MAX_NAME])}")
    return {"request_options": {"request_tags": tags}}
