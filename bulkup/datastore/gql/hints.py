"""Hints for somebody who wrote SQL, or a condition in another language."""

from __future__ import annotations

import re

_SELECT = re.compile(
    r"\s*SELECT\b.*?\bFROM\s+(?P<kind>\S+)(?:\s+WHERE\s+(?P<rest>.+))?", re.I | re.S
)
_WHERE = re.compile(r"\s*WHERE\s*", re.IGNORECASE)
_NOT = re.compile(r"(?:^|[\s(])NOT[\s(]*", re.IGNORECASE)
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2})(:\d{2})?)?")
_WORDS = {
    "LIKE": "; there is no LIKE: for a prefix write name >= 'Jo' AND name < 'Jp'",
    "BETWEEN": "; there is no BETWEEN: write a >= 1 AND a <= 5",
    "ORDER": "; --where takes a condition alone, without ORDER BY",
    "LIMIT": "; --where takes a condition alone, without LIMIT",
}
_SIGNS = {"&&": "; write AND", "||": "; write OR", "!": "; write != or NOT IN in the comparison"}
_NO_NOT = "; a condition cannot be negated: turn the comparison round (!=, <, NOT IN)"


def hint_of(text: str, position: int) -> str:
    """A hint about a condition that is not valid at a position; empty if there is none."""
    before, rest = text[:position], text[position:]
    if found := _SELECT.match(text):
        condition = found["rest"]
        alone = f", and the condition alone: {condition.strip()!a}" if condition else ""
        return f"; write the kind as --kind {found['kind']}{alone}"
    if rest.strip() and _WHERE.fullmatch(before):
        return "; leave out WHERE"
    if _ends_with(_NOT, before):
        return _NO_NOT
    for time in _TIME.finditer(text):
        if time.start() <= position <= time.end():
            clock = f"{time[2]}{time[3] or ':00'}" if time[2] else "00:00:00"
            return f"; write DATETIME('{time[1]}T{clock}Z')"
    if before.endswith("<") and rest.startswith(">"):
        return "; write !="
    for sign, hint in _SIGNS.items():
        if rest.startswith(sign) and not rest.startswith("!="):
            return hint
    word = re.match(r"[A-Za-z]+", rest)
    if word and word[0].upper() == "NOT" and re.search(r"\bIS\s*$", before, re.IGNORECASE):
        return "; write != NULL"
    return _WORDS.get(word[0].upper(), "") if word else ""


def _ends_with(pattern: re.Pattern[str], text: str) -> bool:
    return any(found.end() == len(text) for found in pattern.finditer(text))
