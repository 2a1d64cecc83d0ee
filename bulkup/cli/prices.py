"""The prices that the configuration file sets, for what `plan` and `rehearse` predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkup.cli.settings import current_settings

if TYPE_CHECKING:
    from bulkup.runs.prices import Prices


def configured_prices() -> Prices:
    """Raises UsageError for a region that is not in the table."""
    from bulkup.runs.prices import PRICED, prices_for

    settings = current_settings()
    values = settings.prices
    return prices_for(
        values.get("region"),
        {name: values[name] for name in PRICED if name in values},
        currency=values.get("currency"),
        source=settings.source,
    )
