"""Mutations: what they do, what is refused, and with which message."""

from __future__ import annotations

import math
from typing import Any

import grpc
import pytest

from bulkup.local import messages as m
from tests.local.rpc import (
    FAIL,
    SERVER_VALUE,
    Rpc,
    idents,
    query,
    refused,
    to_value,
    unindexed,
    where,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FAILED = grpc.StatusCode.FAILED_PRECONDITION
EXISTS = grpc.StatusCode.ALREADY_EXISTS
MISSING = grpc.StatusCode.NOT_FOUND


def change(**fields: Any) -> Any:
    return m.Mutation(**fields)


def micros(stamp: Any) -> int:
    return int(stamp.seconds) * 10**6 + int(stamp.nanos) // 1000


# -- versions and times ------------------------------------------------------------------------


def test_versions_increase_and_equal_the_times(rpc: Rpc) -> None:
    first = rpc.put(rpc.entity("K", 1, a=1)).mutation_results[0]
    second = rpc.put(rpc.entity("K", 1, a=2)).mutation_results[0]
    assert second.version > first.version
    assert second.create_time == first.create_time == first.update_time
    assert second.update_time != first.update_time
    found = rpc.get(rpc.key("K", 1))
    assert found is not None
    assert (found.version, found.update_time) == (second.version, second.update_time)
    assert found.create_time == first.create_time


def test_writing_the_stored_entity_changes_nothing(rpc: Rpc) -> None:
    entity = rpc.entity("K", 1, a=1, b=[1, {"c": 1, "d": 2}])
    first = rpc.put(entity).mutation_results[0]
    again = rpc.put(entity)
    assert again.mutation_results[0].version == first.version
    assert again.mutation_results[0].update_time == first.update_time
    assert again.index_updates == 0


def test_a_recreated_entity_is_a_new_one(rpc: Rpc) -> None:
    first = rpc.put(rpc.entity("K", 1, a=1)).mutation_results[0]
    rpc.delete(rpc.key("K", 1))
    again = rpc.put(rpc.entity("K", 1, a=1)).mutation_results[0]
    assert again.version > first.version
    assert again.create_time != first.create_time
    stale = change(update=rpc.entity("K", 1, a=2), base_version=first.version)
    stale.conflict_resolution_strategy = FAIL
    assert refused(rpc.commit, [stale])[0] == FAILED


def test_missing_results_have_the_version_of_their_snapshot(rpc: Rpc) -> None:
    version = rpc.put(rpc.entity("K", 1)).mutation_results[0].version
    answer = rpc.lookup(rpc.key("K", 2))
    assert answer.missing[0].version >= version
    assert answer.missing[0].entity == m.Entity(key=rpc.key("K", 2))


# -- operations --------------------------------------------------------------------------------


def test_insert_update_upsert_delete(rpc: Rpc) -> None:
    entity = rpc.entity("K", 1, a=1)
    assert refused(rpc.commit, [change(update=entity)])[0] == MISSING
    rpc.commit([change(insert=entity)])
    assert refused(rpc.commit, [change(insert=entity)])[0] == EXISTS
    rpc.commit([change(update=rpc.entity("K", 1, b=2))])
    found = rpc.get(rpc.key("K", 1))
    assert found is not None
    assert found.entity == rpc.entity("K", 1, b=2)
    rpc.commit([change(delete=rpc.key("K", 1))])
    rpc.commit([change(delete=rpc.key("K", 1))])
    assert rpc.get(rpc.key("K", 1)) is None
    assert rpc.all(query("K", where("b", "=", 2))) == []


def test_a_transactional_commit_is_all_or_nothing(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 2))
    mutations = [change(upsert=rpc.entity("K", 1)), change(insert=rpc.entity("K", 2))]
    assert refused(rpc.commit, mutations)[0] == EXISTS
    assert idents(rpc.all(query())) == [2]


def test_a_non_transactional_commit_stops_at_the_first_failure(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 2))
    mutations = [
        change(upsert=rpc.entity("K", 1)),
        change(insert=rpc.entity("K", 2)),
        change(upsert=rpc.entity("K", 3)),
    ]
    assert refused(rpc.commit, mutations, transactional=False)[0] == EXISTS
    assert idents(rpc.all(query())) == [1, 2]


def test_mutations_of_one_entity_are_applied_in_order(rpc: Rpc) -> None:
    first = rpc.entity("K", 1, a=1)
    second = rpc.entity("K", 1, a=2)
    rpc.commit([change(insert=first), change(update=second)])
    assert idents(rpc.all(query("K", where("a", "=", 2)))) == [1]
    rpc.commit([change(delete=rpc.key("K", 1)), change(insert=first)])
    assert idents(rpc.all(query("K", where("a", "=", 1)))) == [1]
    rpc.commit([change(upsert=second), change(delete=rpc.key("K", 1))])
    assert rpc.all(query()) == []


@pytest.mark.parametrize(
    "operations",
    [("insert", "insert"), ("update", "insert"), ("upsert", "insert"), ("delete", "update")],
)
def test_invalid_sequences_are_refused(rpc: Rpc, operations: tuple[str, str]) -> None:
    def operation(name: str) -> Any:
        return change(**{name: rpc.key("K", 1) if name == "delete" else rpc.entity("K", 1)})

    code, text = refused(rpc.commit, [operation(name) for name in operations])
    assert code == INVALID
    assert f"Cannot {operations[0]} then {operations[1]} an entity" in text


def test_the_same_key_twice_needs_a_transaction(rpc: Rpc) -> None:
    mutations = [change(upsert=rpc.entity("K", 1)), change(delete=rpc.key("K", 1))]
    assert refused(rpc.commit, mutations, transactional=False) == (
        INVALID,
        "A non-transactional commit may not contain multiple mutations affecting the same entity.",
    )


# -- conditions --------------------------------------------------------------------------------


def condition(rpc: Rpc, how: str, stale: bool) -> dict[str, Any]:
    """A condition on K 1, which was written twice: on its current version or an earlier one."""
    before = rpc.put(rpc.entity("K", 1, a=1)).mutation_results[0]
    now = rpc.put(rpc.entity("K", 1, a=2)).mutation_results[0]
    result = before if stale else now
    return {how: getattr(result, "version" if how == "base_version" else how)}


@pytest.mark.parametrize("how", ["base_version", "update_time"])
@pytest.mark.parametrize("transactional", [True, False])
@pytest.mark.parametrize("operation", ["update", "upsert", "delete"])
def test_a_condition_that_holds_writes(
    rpc: Rpc, how: str, transactional: bool, operation: str
) -> None:
    one = change(**condition(rpc, how, stale=False), conflict_resolution_strategy=FAIL)
    getattr(one, operation).CopyFrom(
        rpc.key("K", 1) if operation == "delete" else rpc.entity("K", 1, a=3)
    )
    (result,) = rpc.commit([one], transactional=transactional).mutation_results
    assert not result.conflict_detected
    found = rpc.get(rpc.key("K", 1))
    if operation == "delete":
        assert found is None
    else:
        assert found is not None
        assert found.version == result.version


@pytest.mark.parametrize("how", ["base_version", "update_time"])
@pytest.mark.parametrize("strategy", [0, SERVER_VALUE])
@pytest.mark.parametrize("operation", ["update", "upsert", "delete"])
def test_server_value_keeps_the_stored_entity_and_reports_it(
    rpc: Rpc, how: str, strategy: int, operation: str
) -> None:
    one = change(**condition(rpc, how, stale=True), conflict_resolution_strategy=strategy)
    getattr(one, operation).CopyFrom(
        rpc.key("K", 1) if operation == "delete" else rpc.entity("K", 1, a=3)
    )
    stored = rpc.get(rpc.key("K", 1))
    other = change(upsert=rpc.entity("K", 2))
    conflicting, fine = rpc.commit([one, other]).mutation_results
    assert stored is not None
    assert conflicting.conflict_detected
    assert (conflicting.version, conflicting.update_time) == (stored.version, stored.update_time)
    assert not fine.conflict_detected
    assert rpc.get(rpc.key("K", 1)) == stored
    assert rpc.get(rpc.key("K", 2)) is not None


@pytest.mark.parametrize("how", ["base_version", "update_time"])
@pytest.mark.parametrize("operation", ["update", "upsert", "delete"])
def test_fail_fails_the_whole_commit(rpc: Rpc, how: str, operation: str) -> None:
    one = change(**condition(rpc, how, stale=True), conflict_resolution_strategy=FAIL)
    getattr(one, operation).CopyFrom(
        rpc.key("K", 1) if operation == "delete" else rpc.entity("K", 1, a=3)
    )
    code, text = refused(rpc.commit, [change(upsert=rpc.entity("K", 2)), one])
    assert code == FAILED
    assert "does not match the required" in text
    assert rpc.get(rpc.key("K", 2)) is None
    # Without a transaction, earlier mutations stay and later ones are not tried.
    third = change(upsert=rpc.entity("K", 3))
    before = change(upsert=rpc.entity("K", 2))
    assert refused(rpc.commit, [before, one, third], transactional=False)[0] == FAILED
    assert idents(rpc.all(query())) == [1, 2]


def test_conditions_on_a_deleted_entity(rpc: Rpc) -> None:
    version = rpc.put(rpc.entity("K", 1)).mutation_results[0].version
    rpc.delete(rpc.key("K", 1))
    for strategy in (SERVER_VALUE, FAIL):
        fields = {"base_version": version, "conflict_resolution_strategy": strategy}
        update = change(update=rpc.entity("K", 1), **fields)
        upsert = change(upsert=rpc.entity("K", 1), **fields)
        if strategy == FAIL:
            assert refused(rpc.commit, [update])[0] == FAILED
            assert refused(rpc.commit, [upsert])[0] == FAILED
        else:
            assert refused(rpc.commit, [update])[0] == MISSING
            (result,) = rpc.commit([upsert]).mutation_results
            assert (result.conflict_detected, result.version) == (True, 0)
    assert rpc.get(rpc.key("K", 1)) is None


def test_base_version_zero_means_no_entity(rpc: Rpc) -> None:
    fields = {"base_version": 0, "conflict_resolution_strategy": FAIL}
    rpc.commit([change(upsert=rpc.entity("K", 1), **fields)])
    assert refused(rpc.commit, [change(upsert=rpc.entity("K", 1, a=1), **fields)])[0] == FAILED
    assert refused(rpc.commit, [change(insert=rpc.entity("K", 1, a=1), **fields)])[0] == FAILED


def test_a_base_version_from_the_future_is_refused(rpc: Rpc) -> None:
    version = rpc.put(rpc.entity("K", 1)).mutation_results[0].version
    code, text = refused(rpc.commit, [change(update=rpc.entity("K", 1), base_version=version + 1)])
    assert (code, "greater than the stored version" in text) == (INVALID, True)


def test_two_mutations_of_an_entity_share_one_condition(rpc: Rpc) -> None:
    version = rpc.put(rpc.entity("K", 1)).mutation_results[0].version
    fields = {"base_version": version, "conflict_resolution_strategy": FAIL}
    first = change(update=rpc.entity("K", 1, a=1), **fields)
    second = change(update=rpc.entity("K", 1, a=2), **fields)
    without = change(update=rpc.entity("K", 1, a=3))
    code, text = refused(rpc.commit, [first, without])
    assert (code, "the same conflict resolution strategy" in text) == (INVALID, True)
    older = change(update=rpc.entity("K", 1, a=3), **{**fields, "base_version": version - 1})
    code, text = refused(rpc.commit, [first, older])
    assert (code, "the same base version" in text) == (INVALID, True)
    rpc.commit([first, second])
    assert idents(rpc.all(query("K", where("a", "=", 2)))) == [1]


def test_an_update_time_finer_than_any_stored_one_never_matches(rpc: Rpc) -> None:
    result = rpc.put(rpc.entity("K", 1)).mutation_results[0]
    one = change(update=rpc.entity("K", 1, a=1), conflict_resolution_strategy=FAIL)
    one.update_time.CopyFrom(result.update_time)
    one.update_time.nanos += 1
    assert refused(rpc.commit, [one])[0] == FAILED


# -- masks and transforms ----------------------------------------------------------------------


def test_a_mask_changes_only_what_it_names(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, a=1, b=2, c={"d": 1, "e": 2}, f=5))
    one = change(update=rpc.entity("K", 1, a=9, f=9, c={"d": 7}))
    one.property_mask.paths.extend(["a", "b", "c.d", "__key__"])
    rpc.commit([one])
    found = rpc.get(rpc.key("K", 1))
    assert found is not None
    assert found.entity == rpc.entity("K", 1, a=9, c={"d": 7, "e": 2}, f=5)
    assert idents(rpc.all(query("K", where("c.d", "=", 7)))) == [1]
    assert rpc.all(query("K", where("b", "=", 2))) == []
    created = change(upsert=rpc.entity("K", 2, a=1, b=2))
    created.property_mask.paths.append("a")
    rpc.commit([created])
    new = rpc.get(rpc.key("K", 2))
    assert new is not None
    assert new.entity == rpc.entity("K", 2, a=1)


def test_an_empty_mask_changes_nothing(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, a=1))
    one = change(update=rpc.entity("K", 1, a=2))
    one.property_mask.SetInParent()
    rpc.commit([one])
    assert idents(rpc.all(query("K", where("a", "=", 1)))) == [1]


def test_names_with_dots_are_escaped_in_paths(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, **{"a.b": 1, "c": 1}))
    for path in ("a\\.b", "`a.b`"):
        one = change(update=rpc.entity("K", 1))
        one.property_mask.paths.append(path)
        rpc.put(rpc.entity("K", 1, **{"a.b": 1, "c": 1}))
        rpc.commit([one])
        found = rpc.get(rpc.key("K", 1))
        assert found is not None
        assert found.entity == rpc.entity("K", 1, c=1)


def transformed(rpc: Rpc, before: Any, **transform: Any) -> tuple[Any, Any]:
    """(property `a` afterwards, the transform's result). `before` None: there is no `a` before."""
    rpc.put(rpc.entity("K", 1, z=1, **({} if before is None else {"a": before})))
    one = change(update=rpc.entity("K", 1, z=1, **({} if before is None else {"a": before})))
    step = one.property_transforms.add(property="a")
    for name, operand in transform.items():
        if name == "set_to_server_value":
            step.set_to_server_value = operand
        elif isinstance(operand, list):
            getattr(step, name).SetInParent()
            getattr(step, name).values.extend(to_value(each) for each in operand)
        else:
            getattr(step, name).CopyFrom(to_value(operand))
    (result,) = rpc.commit([one]).mutation_results
    found = rpc.get(rpc.key("K", 1))
    assert found is not None
    return found.entity.properties["a"], result.transform_results[0]


@pytest.mark.parametrize(
    ("before", "transform", "after"),
    [
        (5, {"increment": 2}, 7),
        (5, {"increment": 0.5}, 5.5),
        (2.5, {"increment": 1}, 3.5),
        (None, {"increment": 3}, 3),
        ("x", {"increment": 3}, 3),
        (2**63 - 2, {"increment": 5}, 2**63 - 1),
        (-(2**63) + 2, {"increment": -5}, -(2**63)),
        (5, {"maximum": 7}, 7),
        (5, {"maximum": 3.5}, 5),
        (5, {"maximum": 5.5}, 5.5),
        (3, {"maximum": 3.0}, 3),
        (0, {"maximum": -0.0}, 0),
        (5, {"minimum": 7}, 5),
        (5, {"minimum": 3.5}, 3.5),
        (None, {"minimum": 3}, 3),
        ([1, "x", 2.0], {"append_missing_elements": [1.0, 2, "y", "y", 3]}, [1, "x", 2.0, "y", 3]),
        (None, {"append_missing_elements": [1]}, [1]),
        ("x", {"append_missing_elements": []}, []),
        ([1, 2, 1.0, None], {"remove_all_from_array": [1, None]}, [2]),
        ("x", {"remove_all_from_array": [1]}, []),
    ],
)
def test_transforms_follow_the_reference(
    rpc: Rpc, before: Any, transform: dict[str, Any], after: Any
) -> None:
    found, result = transformed(rpc, before, **transform)
    assert found == to_value(after)
    assert result == (to_value(None) if isinstance(after, list) else to_value(after))


def test_a_maximum_with_nan_is_nan(rpc: Rpc) -> None:
    found, _ = transformed(rpc, 5, maximum=math.nan)
    assert math.isnan(found.double_value)


def test_request_time_is_one_moment_for_the_whole_commit(rpc: Rpc) -> None:
    mutations = []
    for ident in (1, 2):
        one = change(upsert=rpc.entity("K", ident))
        for name in ("t", "n.t"):
            one.property_transforms.add(property=name, set_to_server_value=1)
        mutations.append(one)
    answer = rpc.commit(mutations)
    moments = {
        micros(value.timestamp_value)
        for result in answer.mutation_results
        for value in result.transform_results
    }
    (moment,) = moments
    assert moment == micros(answer.commit_time) // 1000 * 1000
    found = rpc.get(rpc.key("K", 2))
    assert found is not None
    nested = found.entity.properties["n"].entity_value.properties["t"]
    assert micros(nested.timestamp_value) == moment


# -- ids ---------------------------------------------------------------------------------------


def test_incomplete_keys_get_unique_ids(rpc: Rpc) -> None:
    request = m.AllocateIdsRequest(keys=[rpc.key("K") for _ in range(20)])
    allocated = [key.path[0].id for key in rpc.call("AllocateIds", request).keys]
    rpc.call("ReserveIds", m.ReserveIdsRequest(keys=[rpc.key("K", 7), rpc.key("K", "x")]))
    results = rpc.commit([change(insert=rpc.entity("K", a=1)) for _ in range(20)]).mutation_results
    given = [one.key.path[0].id for one in results]
    assert len(set(allocated + given)) == 40
    assert all(0 < ident < 2**53 for ident in allocated + given)
    assert sorted(idents(rpc.all(query("K", where("a", "=", 1))))) == sorted(given)
    child = rpc.commit([change(upsert=rpc.entity("P", 1, "K"))]).mutation_results[0].key
    assert [(e.kind, e.id > 0) for e in child.path] == [("P", True), ("K", True)]


def test_reserved_ids_are_not_allocated(host: str, rpc: Rpc) -> None:
    """The next ids are predicted, reserved, and then skipped."""
    other = Rpc(host, project=rpc.project)
    request = m.AllocateIdsRequest(keys=[rpc.key("K")])
    first = rpc.call("AllocateIds", request).keys[0].path[0].id
    second = rpc.call("AllocateIds", request).keys[0].path[0].id
    step = (second - first) % (1 << 52)
    third, fourth = ((second - (1 << 52) + n * step) % (1 << 52) + (1 << 52) for n in (1, 2))
    rpc.call("ReserveIds", m.ReserveIdsRequest(keys=[rpc.key("K", third)]))
    assert rpc.call("AllocateIds", request).keys[0].path[0].id == fourth
    other.close()


# -- limits ------------------------------------------------------------------------------------


def deep(levels: int) -> Any:
    one: Any = 1
    for _ in range(levels):
        one = {"a": one}
    return one


@pytest.mark.parametrize(
    ("path", "properties", "words"),
    [
        (("K", 1), {"a": "x" * 1501}, 'property "a" is longer than 1500 bytes'),
        (("K", 1), {"a": "é" * 751}, "longer than 1500 bytes"),
        (("K", 1), {"a": [b"x" * 1501]}, "longer than 1500 bytes"),
        (("K", 1), {"a": {"b": "x" * 1501}}, 'property "a.b" is longer than 1500 bytes'),
        (("K", 1), {"a": unindexed("x" * 1_048_488)}, "longer than 1048487 bytes"),
        (
            ("K", 1),
            {"a": unindexed("x" * 600_000), "b": unindexed("x" * 600_000)},
            "maximum entity size is 1048572 bytes",
        ),
        (("K", 1), {"__a__": 1}, 'The property.name "__a__" is reserved.'),
        (("K", 1), {"": 1}, "empty string"),
        (("K", 1), {"n" * 1501: 1}, "longer than 1500 bytes"),
        (("K", 1), {"é" * 700: {"ü" * 700: {"x" * 1400: "x" * 1501}}}, "The value of property"),
        (("K", 1), {"a": deep(21)}, "At most 20 nested"),
        (("K", 1), {"a": [[1]]}, "contains an array"),
        (("K", 1), {"a": list(range(20_001))}, "Too many indexed properties"),
        (("K", 1), {"a": m.Value()}, "does not contain a value"),
        (("K", 1), {"a": unindexed([])}, "cannot be set on a list value"),
        (("__K__", 1), {}, 'The kind "__K__" is reserved.'),
        (("K", "__x__"), {}, 'The key path element name "__x__" is reserved.'),
        (("", 1), {}, "The kind is the empty string."),
        (("K", ""), {}, "name is the empty string"),
        (("K", 0), {}, "Must not be zero"),
        (("K" * 1501, 1), {}, "longer than 1500 bytes"),
        (("K", "n" * 1501), {}, "longer than 1500 bytes"),
        (("K", 1) * 101, {}, "Cannot exceed 100 elements"),
        (("K", None, "K", 1), {}, "must not be incomplete"),
        ((), {}, "must not be empty"),
    ],
)
def test_entities_that_the_service_refuses_are_refused_and_not_written(
    rpc: Rpc, path: Any, properties: dict[str, Any], words: str
) -> None:
    mutations = [
        change(upsert=rpc.entity("Good", 1)),
        change(upsert=rpc.entity(*path, **properties)),
    ]
    for transactional in (True, False):
        code, text = refused(rpc.commit, mutations, transactional=transactional)
        assert code == INVALID
        assert words in text
    assert rpc.get(rpc.key("Good", 1)) is None


def test_entities_at_the_limits_are_written(rpc: Rpc) -> None:
    rpc.put(
        rpc.entity("K", 1, a="x" * 1500, b="é" * 750, c=unindexed("x" * 1_000_000)),
        rpc.entity(*("K", 1) * 100),
        rpc.entity("K", "n" * 1500, a=list(range(20_000)), b=[unindexed(i) for i in range(1000)]),
        rpc.entity("K", 3, a=deep(19)),
    )
    assert idents(rpc.all(query("K", where("a", "=", "x" * 1500)))) == [1]
    assert idents(rpc.all(query("K", where("a", "=", 19_999)))) == ["n" * 1500]


def test_a_commit_above_ten_mebibytes_is_refused(rpc: Rpc) -> None:
    blob = unindexed("x" * 1_000_000)
    mutations = [change(upsert=rpc.entity("K", i, a=blob)) for i in range(1, 12)]
    code, text = refused(rpc.commit, mutations)
    assert code == INVALID
    assert "too big" in text
    assert rpc.all(query()) == []


@pytest.mark.parametrize(
    ("mutation", "words"),
    [
        (lambda rpc: change(), "missing operation"),
        (lambda rpc: change(update=rpc.entity("K")), "must not be incomplete"),
        (lambda rpc: change(delete=rpc.key("K")), "must not be incomplete"),
        (
            lambda rpc: change(upsert=rpc.entity("K", 1), conflict_resolution_strategy=FAIL),
            "cannot set a conflict resolution strategy if no detection strategy was set",
        ),
        (
            lambda rpc: change(insert=rpc.entity("K", 1), base_version=5),
            "Cannot insert an entity with a base version greater than zero",
        ),
        (
            lambda rpc: change(upsert=rpc.entity("K", 1), property_mask={"paths": ["__x__"]}),
            "reserved",
        ),
        (
            lambda rpc: change(upsert=rpc.entity("K", 1), property_mask={"paths": ["a..b"]}),
            "Invalid property path",
        ),
        (
            lambda rpc: change(delete=rpc.key("K", 1), property_transforms=[{"property": "a"}]),
            "Delete mutation cannot have",
        ),
        (
            lambda rpc: change(
                upsert=rpc.entity("K", 1),
                property_transforms=[{"property": "a", "increment": to_value("1")}],
            ),
            "must be an integer or a double",
        ),
    ],
)
def test_an_invalid_mutation_is_refused_with_a_reason(rpc: Rpc, mutation: Any, words: str) -> None:
    code, text = refused(rpc.commit, [mutation(rpc)])
    assert code == INVALID
    assert words in text


def test_keys_of_another_project_or_a_bad_namespace_are_refused(rpc: Rpc) -> None:
    entity = rpc.entity("K", 1)
    entity.key.partition_id.project_id = "other"
    code, text = refused(rpc.put, entity)
    assert (code, "mismatched databases" in text) == (INVALID, True)
    entity = rpc.entity("K", 1)
    entity.key.partition_id.namespace_id = "no spaces"
    code, text = refused(rpc.put, entity)
    assert (code, "namespace" in text) == (INVALID, True)


def test_an_invalid_project_is_refused(host: str) -> None:
    for project in ("no spaces", "x" * 101):
        rpc = Rpc(host, project=project)
        code, text = refused(rpc.lookup, rpc.key("K", 1))
        assert (code, "invalid app id" in text) == (INVALID, True)
        rpc.close()
    nameless = Rpc(host, project="")
    assert refused(nameless.lookup, nameless.key("K", 1))[0] == INVALID
    nameless.close()
    default = Rpc(host, database="(default)")
    assert refused(default.lookup, default.key("K", 1))[0] == INVALID
    default.close()


def test_bytes_that_are_not_a_message_are_refused(rpc: Rpc) -> None:
    for name in ("Commit", "RunQuery", "Lookup", "Rollback"):
        call = rpc.channel.unary_unary(f"/google.datastore.v1.Datastore/{name}", None, None)
        code, text = refused(call, b"\xff\xff\xff", timeout=10)
        assert (code, text) == (INVALID, "Error parsing protocol message.")


def test_timestamps_are_kept_to_the_microsecond(rpc: Rpc) -> None:
    moment = m.Value()
    moment.timestamp_value.seconds, moment.timestamp_value.nanos = 5, 123_456_789
    rpc.put(rpc.entity("K", 1, t=moment))
    found = rpc.get(rpc.key("K", 1))
    assert found is not None
    assert found.entity.properties["t"].timestamp_value.nanos == 123_456_000


def test_stored_entities_come_back_unchanged(rpc: Rpc) -> None:
    """Meanings, nested exclusions, mixed arrays, foreign keys: nothing is lost on the way."""
    entity = rpc.entity("K", 1, a=[1, unindexed("x")], e={"k": unindexed(1)}, n=None, f=-0.0)
    entity.properties["m"].string_value = "x"
    entity.properties["m"].meaning = 15
    entity.properties["m"].exclude_from_indexes = True
    entity.properties["g"].geo_point_value.latitude = 1.5
    foreign = entity.properties["k"].key_value
    foreign.partition_id.project_id = "elsewhere"
    foreign.path.add(kind="F", name="f")
    entity.properties["e"].entity_value.key.path.add(kind="Incomplete")
    rpc.put(entity)
    found = rpc.get(rpc.key("K", 1))
    assert found is not None
    assert found.entity == entity
    assert rpc.all(query())[0].entity == entity
