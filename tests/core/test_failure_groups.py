from __future__ import annotations

import pytest

from bulkup.core.failure_groups import FIRST_KEYS, MAX_GROUPS, FailureGroups, place_of
from bulkup.core.model import Failure

TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "full_name.py", line 8, in handle_entity\n'
    "    convert(entity)\n"
    '  File "shop/prices.py", line {line}, in convert\n'
    "    raise ValueError(message)\n"
    "{error}"
)


def failure(number: int, error: str, *, line: int = 80, step: str = "handle") -> Failure:
    traceback = TRACEBACK.format(line=line, error=error)
    return Failure(f"Key('Order', 'ORD-{number}')", step, error, traceback)


@pytest.mark.parametrize(
    "message",
    [
        "no price for {0}",
        "no price for 'ORD-{0}'",
        'no price for "it\'s {0}"',
        "no price for Key('Order', 'ORD-{0}', 'Line', {0})",
        "order 8f14e45f-ceea-46{0}-a{0} has no price",
        "customer-{0}@example.com can't pay {0}.50 EUR",
        "{{'id': {0}, 'name': 'x{0}'}} is not valid",
        "{0}",
        "no price for 'a string that was cut {0}…",
    ],
)
def test_texts_that_differ_in_ids_are_one_group(message: str) -> None:
    groups = FailureGroups(failure(i, f"ValueError: {message.format(i)}") for i in range(1000))
    (group,) = groups.largest_first()
    assert (group.count, groups.others) == (1000, 0)
    assert group.keys == tuple(f"Key('Order', 'ORD-{i}')" for i in range(FIRST_KEYS))
    assert group.error == f"ValueError: {message.format(0)}"
    assert group.place == "shop/prices.py:80 in convert"


@pytest.mark.parametrize(
    "other",
    [
        failure(2, "TypeError: no price for 2"),
        failure(2, "ValueError: no name for 2"),
        failure(2, "ValueError: no price for 2", line=81),
        failure(2, "ValueError: no price for 2", step="write"),
        failure(2, "ValueError"),
    ],
)
def test_another_type_message_place_or_step_is_another_group(other: Failure) -> None:
    groups = FailureGroups([failure(1, "ValueError: no price for 1"), other])
    assert [group.count for group in groups.largest_first()] == [1, 1]


def test_the_largest_group_is_first_and_the_traceback_is_of_its_first_failure() -> None:
    rare, often = failure(0, "KeyError: 'a'"), [failure(i, f"ValueError: {i}") for i in (1, 2)]
    first, second = FailureGroups([rare, *often]).largest_first()
    assert (first.count, first.traceback) == (2, often[0].traceback)
    assert (second.count, second.traceback) == (1, rare.traceback)


def test_groups_are_bounded_and_the_rest_is_counted() -> None:
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    groups = FailureGroups(failure(1, f"ValueError: {word}") for word in words for _ in range(2))
    assert len(groups.largest_first()) == MAX_GROUPS
    assert groups.others == 2 * (len(words) - MAX_GROUPS)


def test_groups_of_several_runs_add_up() -> None:
    total = FailureGroups()
    for start in (0, 3):
        for group in FailureGroups(
            failure(i, f"ValueError: {i}") for i in range(start, start + 3)
        ).largest_first():
            total.merge(group)
    (group,) = total.largest_first()
    assert (group.count, len(group.keys)) == (6, FIRST_KEYS)


@pytest.mark.parametrize(
    ("traceback", "place"),
    [
        ("", ""),
        ("no frames", ""),
        (TRACEBACK.format(line=9, error='ValueError: File "x'), "shop/prices.py:9 in convert"),
        ('  | File "a.py", line 3, in f\n  | E: x', "a.py:3 in f"),
    ],
)
def test_the_place_is_the_innermost_frame(traceback: str, place: str) -> None:
    assert place_of(traceback) == place


def test_huge_and_hostile_texts_take_no_time() -> None:
    for text in ("e" * 10**6, "'" * 10**6, "'a " * 10**5, 'File "' * 10**5, "\\" * 10**5):
        assert FailureGroups([Failure(text, text, text, text)]).largest_first()[0].count == 1
