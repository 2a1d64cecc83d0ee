"""Errors for writes and failures in a batch that do not belong to exactly one of its entities."""

from __future__ import annotations


def nobodys(written: str, does: str) -> TypeError:
    return TypeError(
        f"{written} is not in this batch, so say to which of its entities the {does} belongs: "
        f"self.{does}(..., owner=entity); both are written together or not at all"
    )


def no_owner(owner: str) -> ValueError:
    return ValueError(f"owner= takes an entity of this batch, which {owner} is not")


def own(written: str, owner: str) -> ValueError:
    return ValueError(
        f"{written} is in this batch, so its write belongs to itself and not to {owner}: leave out "
        "owner= (in a function, return it as its own result)"
    )


def several(written: str, first: str, second: str) -> ValueError:
    return ValueError(
        f"{written} is written for {first} and for {second}, of which one may fail and the other "
        "not: in a batch a write belongs to one entity; what several of them add to is a case for "
        "handle_entity, or for a function without batch=True"
    )


def fails_nobody(entity: str) -> ValueError:
    return ValueError(f"{entity} has not failed, because it is not in this batch")


def no_error(error: object) -> TypeError:
    return TypeError(f"fail takes an exception or a string, not a {type(error).__name__}")
