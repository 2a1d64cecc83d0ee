"""Two passes have the same end if nothing differs but the ids that the server has chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bulkup.local import messages as m
from bulkup.local.access import LocalFile
from bulkup.local.encoding import Partition
from bulkup.local.file_diff import settle
from bulkup.local.snapshot import copy_at_rest
from bulkup.local.storage import Storage
from bulkup.rehearsal import same_end
from bulkup.rehearsal.same_end import EndDifference, Varying, end_difference, varying_in

PLACE = Partition("local", "", "")


def entity(kind: str, ident: int | str = 0, **values: Any) -> Any:
    """Without an id: the server chooses one."""
    made = m.Entity()
    made.key.partition_id.project_id = "local"
    element = made.key.path.add(kind=kind)
    if isinstance(ident, str):
        element.name = ident
    elif ident:
        element.id = ident
    for name, value in values.items():
        if isinstance(value, int):
            made.properties[name].integer_value = value
        else:
            made.properties[name].key_value.CopyFrom(value)
    return made


class Passes:
    def __init__(self, folder: Path) -> None:
        self.base, self.one, self.other = (folder / name for name in ("base", "one", "other"))
        self.put(self.base, *(entity("Item", number, n=number) for number in range(1, 6)))
        settle(self.base)
        for path in (self.one, self.other):
            copy_at_rest(self.base, path)

    def put(self, path: Path, *entities: Any) -> list[Any]:
        """Returns their keys."""
        with LocalFile(path, PLACE) as file:
            request = m.CommitRequest(project_id="local", mode=m.CommitRequest.NON_TRANSACTIONAL)
            request.mutations.extend(m.Mutation(upsert=one) for one in entities)
            answer = m.CommitResponse.FromString(file._call(file._service.commit, request))
        keys = zip(answer.mutation_results, entities, strict=True)
        return [result.key if result.HasField("key") else one.key for result, one in keys]

    def difference(self, but: Varying | None = None) -> EndDifference:
        for path in (self.one, self.other):
            settle(path)
        return end_difference(self.base, self.one, self.other, lambda: None, but)


@pytest.fixture
def passes(tmp_path: Path) -> Passes:
    return Passes(tmp_path)


def test_new_ids_and_references_to_them_are_equal(passes: Passes) -> None:
    for path, order in ((passes.one, (1, 2, 3)), (passes.other, (3, 1, 2))):
        if path is passes.other:
            passes.put(path, entity("Waste"))  # so that the ids are others
        notes = dict(
            zip(order, passes.put(path, *(entity("Note", n=n) for n in order)), strict=True)
        )
        passes.put(path, *(entity("Item", n, note=notes[n]) for n in order))
    assert passes.difference().effect.created == 1  # the waste
    passes.put(passes.one, entity("Waste"))
    assert passes.difference().is_none


def test_a_reference_to_another_new_entity_differs(passes: Passes) -> None:
    for path, order in ((passes.one, (0, 1)), (passes.other, (1, 0))):
        notes = passes.put(path, entity("Note", n=1), entity("Note", n=2))
        passes.put(path, *(entity("Item", n + 1, note=notes[order[n]]) for n in (0, 1)))
    assert passes.difference().effect.changed == 2


def test_one_more_new_entity_differs(passes: Passes) -> None:
    passes.put(passes.one, entity("Note", n=1))
    passes.put(passes.other, entity("Note", n=1), entity("Note", n=1))
    assert passes.difference().effect.created == 1


def test_large_ids_of_the_data_are_not_new(passes: Passes) -> None:
    """Datastore's own ids are as large as those of the embedded one."""
    large = 5_629_499_534_213_120
    for path in (passes.base, passes.one, passes.other):
        passes.put(path, entity("Big", large, n=0), entity("Big", large + 1, n=1))
    settle(passes.base)
    passes.put(passes.one, entity("Big", large, n=5))
    passes.put(passes.other, entity("Big", large + 1, n=5), entity("Big", large, n=1))
    assert not passes.difference().is_none


def test_what_varies_by_itself_does_not_count(passes: Passes) -> None:
    passes.put(passes.one, entity("Item", 1, at=1), entity("Log", "a", n=1), entity("Item", 2, n=7))
    passes.put(
        passes.other, entity("Item", 1, at=2), entity("Log", "b", n=1), entity("Item", 2, n=8)
    )
    varying = varying_in(passes.difference())
    assert varying.named() == ("Item.at", "Item.n", "the keys of new entities of Log")
    assert passes.difference(varying).is_none
    # One more of the kind is a difference all the same.
    passes.put(passes.other, entity("Log", "c", n=1))
    assert not passes.difference(varying).is_none


def test_more_than_can_be_compared_is_told(passes: Passes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_end, "MOST_COMPARED", 3)
    passes.put(passes.one, *(entity("Item", n, n=0) for n in range(1, 6)))
    found = passes.difference()
    assert found.effect.changed == 3
    assert found.not_compared == 2


def test_differences_are_found_when_the_file_is_ahead_of_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commits of both passes get the same versions."""
    with monkeypatch.context() as patched:
        patched.setitem(Storage.__init__.__kwdefaults__, "clock", lambda: 1 << 52)
        passes = Passes(tmp_path)
    passes.put(passes.one, entity("Item", 1, n=100))
    passes.put(passes.other, entity("Item", 1, n=200))
    assert passes.difference().effect.changed == 1
    passes.put(passes.one, entity("Item", 1, n=200))
    assert passes.difference().is_none
