"""What a run costs: its operations at list prices, or at the prices of the configuration file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bulkup.core.errors import UsageError
from bulkup.core.plan import Bill, BillLine, Estimate
from bulkup.core.similar import similar_names

PRICED = ("reads", "writes", "deletes")
_FILE = Path(__file__).with_name("prices.json")


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_FILE.read_text())
    return table


@dataclass(frozen=True)
class Prices:
    """Prices per 100,000 operations. Small operations are free."""

    reads: float
    writes: float
    deletes: float
    currency: str
    region: str
    source: str
    as_of: str


def prices_for(
    region: str | None = None,
    own: Mapping[str, float] | None = None,
    *,
    currency: str | None = None,
    source: str = "",
) -> Prices:
    """The list prices of a region. The user's `own` prices replace them; `source` says where those
    are from.

    The service does not tell a client where the database is. Without a region, the most expensive
    one in the table is used. Raises UsageError for a region that is not in the table, unless all
    prices are the user's.
    """
    table, own = _table(), own or {}
    regions = table["regions"]
    listed = regions.get(region or table["default"])
    all_own = all(name in own for name in PRICED)
    if listed is None and not all_own:
        close = similar_names(region or "", regions)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(
            f"{source or 'prices'}: the region {region!r} is not in bulkup's table of list prices "
            f"({', '.join(regions)}); set reads, writes and deletes, the prices of 100,000{meant}"
        )
    values = {**(listed or {}), **own}
    return Prices(
        **{name: float(values[name]) for name in PRICED},
        currency=currency or table["currency"],
        region=(region or "") if all_own else region or table["default"],
        source=source if own else table["source"],
        as_of="" if own else table["as_of"],
    )


def bill(
    prices: Prices, *, reads: Estimate, writes: Estimate, deletes: Estimate, small: Estimate
) -> Bill:
    return Bill(
        (
            BillLine("reads", reads, prices.reads),
            BillLine("writes", writes, prices.writes),
            BillLine("deletes", deletes, prices.deletes),
            BillLine("small", small, 0.0),
        ),
        prices.currency,
        prices.region,
        prices.source,
        prices.as_of,
    )
