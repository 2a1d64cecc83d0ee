from __future__ import annotations

import pytest
from google.cloud.datastore import Key

from bulkup.core.typed_key import typed_key
from bulkup.datastore.keys import key_text


@pytest.mark.parametrize(
    "name", ["a", "it's", 'a "b"', "'\"", "\\", "\n\x1b\u202e\U000e0001", "é, namespace='q')", " "]
)
def test_what_a_key_says_is_read_back_whatever_its_names(name: str) -> None:
    key = Key("Shop", 5, name, name, project="p", namespace=name)
    path = [["Shop", 5], [name, name]]
    assert typed_key(key_text(key)) == {"path": path, "namespace": name}


def test_ids_are_numbers_and_names_are_strings() -> None:
    assert typed_key("Key('A', -9223372036854775808, 'B', '5')") == {
        "path": [["A", -(2**63)], ["B", "5"]],
        "namespace": "",
    }
    assert typed_key("Key('A')") == {"path": [["A", None]], "namespace": ""}


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "Key()", "Key(5, 5)", "Key('A', 05)", "Key('A', f())", "Key('A', b'1')",
        "Key('A', 5, project='p')", "Key('A', 5) ", "Key('A', 'b", "Key('A', 5, namespace=5)",
        r"Key('\U00110000', 5)", r"Key('\d', 5)", "Key('A', 5)\n", "Key(" + "'a', " * 10_000,
    ],
)  # fmt: skip
def test_any_other_text_is_not_a_key(text: str) -> None:
    assert typed_key(text) is None
