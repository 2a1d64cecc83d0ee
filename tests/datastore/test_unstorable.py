"""What to write instead of a value that Datastore cannot store."""

from __future__ import annotations

from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import pytest

from bulkup.authoring.writes import REMOVE
from bulkup.datastore.unstorable import why_unstorable


def of_numpy(name: str, **attributes: Any) -> Any:
    """A value as numpy has them, without numpy."""
    return type(name, (), {"__module__": "numpy", **attributes})()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (of_numpy("int64", shape=()), "a numpy.int64; use a value of Python, such as value.item()"),
        (of_numpy("ndarray", shape=(2,)), "a numpy.ndarray; use a value of Python, such as "
         "value.tolist()"),
        (frozenset(), "a frozenset; use a list, such as sorted(value)"),
        (range(3), "a range; use a list"),
        (memoryview(b""), "a memoryview; use bytes"),
        (Fraction(1, 2), "a Fraction; use a float or a str, such as str(value)"),
        (1j, "a complex; use a list of two floats"),
        (PurePosixPath("a"), "a PurePosixPath; use a str, such as str(value)"),
        (int, "a type; use a str"),
        (REMOVE, "a Remove; use the whole new value (bulkup.REMOVE removes properties of the "
         "entity itself)"),
        (object(), "a object"),
    ],
)  # fmt: skip
def test_the_type_is_named_with_what_to_write(value: Any, says: str) -> None:
    assert why_unstorable(value) == f"Datastore cannot store {says}"
