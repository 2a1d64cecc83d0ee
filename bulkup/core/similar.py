"""Whether one name is likely a typo of another: letter case, a plural, a letter or two."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

SIMILAR = 0.8
"""The minimum ratio of `difflib`: `Ordr` and `Order` have 0.89, `Order` and `OrderItem` 0.71."""

_SEPARATORS = re.compile(r"[\W_]+")
_DIGITS = re.compile(r"[0-9]+")


def similar_names(name: str, there: Iterable[str]) -> list[str]:
    """Those of the names that `name` may be a typo of, the most similar first."""
    found = [(_similarity(name, other), other) for other in there if other != name]
    found = [(ratio, other) for ratio, other in found if ratio >= SIMILAR]
    return [other for _, other in sorted(found, key=lambda one: (-one[0], one[1]))]


def likely_meant(name: str, there: Iterable[str]) -> list[str]:
    """The names that `name` may be a typo of; if there are none, those that begin with it."""
    names, start = list(there), _plain(name)
    begun = [one for one in names if len(start) > 2 and _plain(one).startswith(start)]
    return similar_names(name, names) or begun


def is_similar_by_part(name: str, other: str) -> bool:
    """Whether `name` is likely a typo of `other`, for names made of parts, each of which must be
    similar: `tennant-a` is likely a typo of `tenant-a`, but `tenant-b` is not."""
    if _plain(name) == _plain(other):
        return name != other
    parts, others = _SEPARATORS.split(name), _SEPARATORS.split(other)
    return len(parts) == len(others) and all(
        _similarity(part, its) >= SIMILAR for part, its in zip(parts, others, strict=True)
    )


def is_one_character_off(name: str, other: str) -> bool:
    """Whether one name has a character that the other lacks: `tenant-11` and `tenant-1`. Two names
    of equal length belong to a series: `tenant-1` and `tenant-2`."""
    short, long = sorted((name, other), key=len)
    return len(long) == len(short) + 1 and any(
        long[:at] + long[at + 1 :] == short for at in range(len(long))
    )


def is_slip(name: str, other: str) -> bool:
    """Whether the names differ by a slip of the finger: two neighbouring letters are swapped, or a
    letter is doubled in only one of them. The first letter must be the same, because it is seldom
    wrong: `altitude` is not a typo of `latitude`."""
    if len(name) < 5 or name[:1] != other[:1]:
        return False
    short, long = sorted((name, other), key=len)
    if len(short) == len(long):
        at = [n for n, (a, b) in enumerate(zip(name, other, strict=True)) if a != b]
        if len(at) != 2 or at[1] != at[0] + 1:
            return False
        swapped = name[at[0]] + name[at[1]]
        return swapped.isalpha() and other[at[0] : at[1] + 1] == swapped[::-1]
    return len(long) == len(short) + 1 and any(
        long[at] == long[at + 1] and long[at].isalpha() and long[:at] + long[at + 1 :] == short
        for at in range(len(long) - 1)
    )


def _similarity(name: str, other: str) -> float:
    one, two = _plain(name), _plain(other)
    if _singular(one) == _singular(two):
        return 1.0
    if _DIGITS.sub("", one) == _DIGITS.sub("", two):
        return 0.0  # OrderV1 and OrderV2 are two things
    return difflib.SequenceMatcher(None, one, two).ratio()


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name).casefold()


def _singular(plain: str) -> str:
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("s", "")):
        if plain.endswith(ending) and not plain.endswith("ss") and len(plain) > len(ending) + 1:
            return plain[: -len(ending)] + instead
    return plain
