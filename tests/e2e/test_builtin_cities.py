"""End to end: built-in updaters on all cities of the world, killed once, checked, and undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from bulkup.datastore.keys import key_text
from bulkup.datastore.messages import EntityPb
from tests.chaos.child import Death, outcome, start
from tests.cli.shell import Shell
from tests.conftest import Server
from tests.e2e.test_cities import ALL, Raw, cities
from tests.runs.undoing import entities

Change = Callable[[Any], None]


def _move(city: Any, old: str, new: str, into: Any = None) -> None:
    (city if into is None else into).properties[new].CopyFrom(city.properties[old])
    del city.properties[old]


def _renamed(city: Any) -> None:
    _move(city, "name", "title")


def _with_population_as_text(city: Any) -> None:
    city.properties["population"].string_value = str(city.properties["population"].integer_value)


def _embedded(city: Any) -> None:
    position = city.properties["position"].entity_value
    for name in ("latitude", "longitude"):
        _move(city, name, name, position)


def _merged(city: Any) -> None:
    city.properties["was"].string_value = city.key.path[0].kind
    city.key.path[0].kind = "Place"


def _split(city: Any) -> None:
    kinds = {"IR": "Iranian", "IN": "Indian"}
    code = city.properties["countrycode"].string_value
    city.key.path[0].kind = kinds.get(code, "City")


CASES: Mapping[str, tuple[tuple[str, ...], Change]] = {
    "rename-property": (("from=name", "to=title"), _renamed),
    "retype-property": (("property=population", "to=str"), _with_population_as_text),
    "embed-properties": (("properties=latitude,longitude", "into=position"), _embedded),
    "merge-kind": (("to=Place", "origin_in=was"), _merged),
    "split-kind": (("by=countrycode", "into=IR=Iranian,IN=Indian"), _split),
}


def killed_checked_and_undone(
    shell: Shell, server: Server, folder: Path, name: str, count: int, *, batch_size: int,
    dies_at: int,
) -> None:  # fmt: skip
    """`dies_at`: so many commits to the checkpoint."""
    assignments, change = CASES[name]
    with grpc.insecure_channel(server.host) as channel:
        Raw(server, channel).load(cities(count))
    before = entities(server)
    assert len(before) == count
    words = ["run", name, "--kind", "City"]
    words += [word for assignment in assignments for word in ("-p", assignment)]
    words += ["--project", server.project, "--state-dir", str(shell.state_dir)]
    words += ["--batch-size", str(batch_size), "-q"]
    process, files = start(
        words, emulator=server.host, folder=folder, death=Death("written", dies_at)
    )
    process.join(600)
    died = outcome(process, files)
    assert died.code == -9, died.output
    assert entities(server) != before  # in the middle of it
    result = shell.bulkup("resume", "--json", timeout_s=1200)
    assert result.code == 0, result
    assert result.summary["counts"]["handled"] == count
    assert entities(server) == expected(before, change)
    (run_id,) = shell.runs()
    result = shell.bulkup("undo", run_id, "--json", timeout_s=1200)
    assert result.code == 0, result
    assert entities(server) == before


def expected(before: Mapping[str, bytes], change: Change) -> dict[str, bytes]:
    found = {}
    for raw in before.values():
        city = EntityPb.FromString(raw)
        change(city)
        found[key_text(city.key)] = city.SerializeToString(deterministic=True)
    return found


def test_some_cities_are_moved_and_undone(shell: Shell, embedded: Server, tmp_path: Path) -> None:
    killed_checked_and_undone(
        shell, embedded, tmp_path, "merge-kind", 200, batch_size=20, dies_at=12
    )


@pytest.fixture
def shell(tmp_path: Path, request: pytest.FixtureRequest) -> Shell:
    server = "server" if "server" in request.fixturenames else "embedded"
    return Shell(tmp_path, request.getfixturevalue(server))


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", CASES)
# FS sorts what it has for each page (all cities take it minutes for each updater), and LF looks
# through everything for each page, each change and each look for descendants.
@pytest.mark.parametrize(
    ("server", "count"), [("EM", ALL), ("FS", 2_400), ("LF", 400)], indirect=["server"]
)
def test_all_cities_are_changed_and_undone(
    shell: Shell, server: Server, tmp_path: Path, name: str, count: int
) -> None:
    batch_size, dies_at = (100, 30) if count == ALL else (20, 12)
    killed_checked_and_undone(
        shell, server, tmp_path, name, count, batch_size=batch_size, dies_at=dies_at
    )
