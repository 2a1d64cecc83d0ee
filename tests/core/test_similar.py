"""Which names are likely typos of each other."""

from __future__ import annotations

import pytest

from bulkup.core.similar import is_one_character_off, is_similar_by_part, similar_names


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("Ordr", "Order"), ("Oredr", "Order"), ("order", "Order"), ("Orders", "Order"),
        ("Order", "Orders"), ("Category", "Categories"), ("Box", "Boxes"), ("Custmer", "Customer"),
        ("order_item", "OrderItem"), ("Adress", "Address"), ("Class", "Classes"),
    ],
)  # fmt: skip
def test_a_typo_a_plural_and_letter_case_are_similar(name: str, there: str) -> None:
    assert similar_names(name, ["Invoice", there]) == [there]


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("Order", "Order"), ("OrderV1", "OrderV2"), ("Order2", "Order"), ("Order", "OrderItem"),
        ("User", "Usage"), ("Cat", "Car"), ("Payment", "Refund"),
    ],
)  # fmt: skip
def test_other_things_are_not(name: str, there: str) -> None:
    assert similar_names(name, [there]) == []


@pytest.mark.parametrize(
    ("name", "other", "similar"),
    [
        ("tennant-a", "tenant-a", True), ("Tenant-1", "tenant-1", True),
        ("tenant_1", "tenant-1", True), ("tenant-a", "tenant-b", False),
        ("tenant-1", "tenant-10", False), ("tenant-a", "tenant-a", False),
        ("acme", "acme-test", False), ("production", "prod", False),
    ],
)  # fmt: skip
def test_a_namespace_is_compared_part_by_part(name: str, other: str, similar: bool) -> None:
    assert is_similar_by_part(name, other) is similar


@pytest.mark.parametrize(
    ("name", "other", "off"),
    [
        ("tenant-11", "tenant-1", True), ("tenant-1", "tenant-11", True), ("acm", "acme", True),
        ("tenant-1", "tenant-2", False), ("tenant-1", "tenant-1", False),
        ("tenant-100", "tenant-1", False), ("xtenan", "tenant-1", False),
    ],
)  # fmt: skip
def test_one_character_more_or_less_is_not_another_of_the_series(
    name: str, other: str, off: bool
) -> None:
    assert is_one_character_off(name, other) is off
