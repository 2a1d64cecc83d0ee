"""Raises what its own query orders by: every entity comes again, behind the others."""

import bulkup


@bulkup.updater(kind="Item", order="n")
def raise_n(entity):
    entity["n"] += 1000
    return entity
