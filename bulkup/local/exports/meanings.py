"""What exports say about a value in addition to its type.

App Engine's first API had few types of values and many meanings. Datastore's API has a type for
some of them, and keeps others as `Value.meaning`.
"""

from __future__ import annotations

TIMESTAMP = 7
"""For an integer: microseconds since 1970."""
POINT = 9
BLOB = 14
TEXT = 15
BYTE_STRING = 16
ENTITY = 19
EMPTY_LIST = 24
VECTOR = 31

# Only in the API.
USER = 20
ZLIB = 22
PLAIN_POINT = 23
"""For a geo point that is exported without a meaning."""

ZLIB_URI = "ZLIB"
"""`Property.meaning_uri` of a compressed blob."""

STRINGS = frozenset((1, 2, 3, 4, 5, 6, 8, 10, 11, 12, TEXT, 17, 18))
"""Meanings of strings, the same in exports and in the API."""
PERCENT = 13
INTEGERS = {4: 29, 5: 30, PERCENT: PERCENT, TIMESTAMP: TIMESTAMP}
"""Meanings of integers: in exports, and in the API. The first two are as measured on both of
Google's emulators. A timestamp outside the years 1 to 9999 stays an integer."""

MIN_MICROS = -62_135_596_800_000_000
MAX_MICROS = 253_402_300_799_999_999
"""The years 1 to 9999, the range of a timestamp."""
