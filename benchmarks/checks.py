"""What is measured in which circumstances, and the bounds it has to keep.

Every bound is a ratio of two rows of one run, but for CPU per entity and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.contenders import FLOOR, FLOOR_SHARDS, Result, Row, bulkup, peer
from benchmarks.stub import Settings

CPU_US = 15
CPU_ADVANTAGE = 12.5
ROUND_TRIP_MS = 50
ONE_CHAIN_WALL = 1.1
SHARDS_WALL = 1.3
OF_THE_BEST = 0.9
TWO_PROCESSES = 1.7
MORE_MEMORY = 1.1
IMAGES_WALL = 1.1
BEAM_SLOPE = 1.2

CLASS, OFFICIAL = "bulkup, class", "official client, loop"


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    text: str
    """The numbers, or why there are none."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of entities."""

    peers: int = 100_000
    slow_peers: int = 20_000
    one_chain: int = 100_000
    shards: int = 200_000
    slow_commits: int = 50_000
    processes: int = 100_000
    memory: tuple[int, int] = (20_000, 1_000_000)
    failing: int = 200_000
    large: tuple[int, int] = (100, 1_000)


QUICK = Sizes(5_000, 2_000, 5_000, 10_000, 5_000, 5_000, (2_000, 20_000), 4_000, (5, 20))


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    rows: Callable[[Sizes], list[Row]]
    checks: Callable[[Mapping[str, Result]], Iterator[Check]]
    repeats: bool = True
    """False: one round is enough, since waiting dominates."""


def _check(
    name: str, results: Mapping[str, Result], needed: list[str], judge: Callable[[], Check]
) -> Check:
    """A check whose rows were not all measured fails, and says why."""
    missing = [results[one].trouble for one in needed if results[one].trouble]
    return Check(name, False, "; ".join(dict.fromkeys(missing))) if missing else judge()


def _at_most(name: str, results: Mapping[str, Result], this: str, that: str, limit: float) -> Check:
    """The wall time of `this` against that of `that`."""

    def judge() -> Check:
        ratio = results[this].wall_s_per_entity / results[that].wall_s_per_entity
        return Check(name, ratio <= limit, f"{ratio:.4g} times {that} (at most {limit})")

    return _check(name, results, [this, that], judge)


# --- no latency: everybody ---


def _peer_rows(sizes: Sizes) -> list[Row]:
    settings = Settings(entities=sizes.peers)
    return [
        peer(FLOOR, "floor", settings),
        peer(FLOOR_SHARDS, "floor_shards", settings),
        bulkup(CLASS, "Touch", settings, "undo?=false"),
        bulkup("bulkup, class, before-images", "Touch", settings),
        bulkup("bulkup, decorator", "touch", settings),
        bulkup("bulkup, BulkDelete", "Remove", settings),
        peer(OFFICIAL, "official", settings, sizes.slow_peers),
        peer("ndb", "ndb", settings, sizes.slow_peers),
        peer("Beam, DatastoreIO", "beam", settings, sizes.slow_peers),
    ]


def _peer_checks(results: Mapping[str, Result]) -> Iterator[Check]:
    def enough() -> Check:
        cpu = results[CLASS].cpu_us
        return Check("CPU", cpu <= CPU_US, f"{cpu:.1f} µs per entity (at most {CPU_US})")

    def better() -> Check:
        times = results[OFFICIAL].cpu_us / results[CLASS].cpu_us
        text = f"{times:.1f} times less than {OFFICIAL} (at least {CPU_ADVANTAGE})"
        return Check("CPU against the loop", times >= CPU_ADVANTAGE, text)

    yield _check("CPU", results, [CLASS], enough)
    yield _check("CPU against the loop", results, [CLASS, OFFICIAL], better)


# --- far away ---

ONE_CHAIN, SHARDS = "bulkup, one chain", "bulkup, 8 shards"
CHAIN_IMAGES, SHARDS_IMAGES = f"{ONE_CHAIN}, before-images", f"{SHARDS}, before-images"


def _far_rows(sizes: Sizes) -> list[Row]:
    one = Settings(entities=sizes.one_chain, rtt_ms=ROUND_TRIP_MS)
    eight = Settings(entities=sizes.shards, rtt_ms=ROUND_TRIP_MS)
    return [
        peer(FLOOR, "floor", one),
        bulkup(ONE_CHAIN, "Touch", one, "shards?=1", "undo?=false"),
        bulkup(CHAIN_IMAGES, "Touch", one, "shards?=1"),
        peer(FLOOR_SHARDS, "floor_shards", eight),
        bulkup(SHARDS, "Touch", eight, "shards=8", "undo?=false", floor=FLOOR_SHARDS),
        bulkup(SHARDS_IMAGES, "Touch", eight, "shards=8", floor=FLOOR_SHARDS),
    ]


def _far_checks(results: Mapping[str, Result]) -> Iterator[Check]:
    where = f"wall, {ROUND_TRIP_MS} ms round trips"
    yield _at_most(where, results, ONE_CHAIN, FLOOR, ONE_CHAIN_WALL)
    yield _at_most(f"{where}, 8 shards", results, SHARDS, FLOOR_SHARDS, SHARDS_WALL)
    yield _at_most("before-images, one chain", results, CHAIN_IMAGES, ONE_CHAIN, IMAGES_WALL)
    yield _at_most("before-images, 8 shards", results, SHARDS_IMAGES, SHARDS, IMAGES_WALL)


# --- commits that take long ---

PAGE_MS = 100
SLOW_MS, SLOW_FIXED = 400, (1, 2, 4, 8, 16)
SLOWER_MS, SLOWER_FIXED = 900, (4, 8, 16)
"""Of these the default of an engine that does not adapt, 4, is far from the best."""


def _by_itself(commit_ms: int) -> str:
    return f"bulkup, {commit_ms} ms commits"


def _fixed(commit_ms: int, in_flight: int) -> str:
    return f"bulkup, {commit_ms} ms, in_flight={in_flight}"


def _slow_rows(sizes: Sizes) -> list[Row]:
    rows = []
    for commit_ms, fixed in ((SLOW_MS, SLOW_FIXED), (SLOWER_MS, SLOWER_FIXED)):
        settings = Settings(entities=sizes.slow_commits, page_ms=PAGE_MS, commit_ms=commit_ms)
        rows.append(bulkup(_by_itself(commit_ms), "Touch", settings, "shards?=1"))
        for n in fixed:
            name = _fixed(commit_ms, n)
            rows.append(bulkup(name, "Touch", settings, "shards?=1", f"in_flight={n}"))
    return rows


def _slow_checks(results: Mapping[str, Result]) -> Iterator[Check]:
    for commit_ms, fixed in ((SLOW_MS, SLOW_FIXED), (SLOWER_MS, SLOWER_FIXED)):
        name, adaptive = f"commits of {commit_ms} ms", _by_itself(commit_ms)
        others = {n: _fixed(commit_ms, n) for n in fixed}

        def judge(
            name: str = name, adaptive: str = adaptive, others: dict[int, str] = others
        ) -> Check:
            rates = {n: results[one].rate for n, one in others.items()}
            best = max(rates, key=rates.__getitem__)
            share = results[adaptive].rate / rates[best]
            text = f"{share:.0%} of the rate of in_flight={best} (at least {OF_THE_BEST:.0%})"
            return Check(name, share >= OF_THE_BEST, text)

        yield _check(name, results, [adaptive, *others.values()], judge)


# --- an updater that computes ---

ALONE, TWO = "bulkup, 100 µs updater", "bulkup, the same, processes=2"


def _process_rows(sizes: Sizes) -> list[Row]:
    settings = Settings(entities=sizes.processes)
    return [
        bulkup(ALONE, "Busy", settings, "processes?=1"),
        bulkup(TWO, "Busy", settings, "processes=2"),
    ]


def _process_checks(results: Mapping[str, Result]) -> Iterator[Check]:
    name = "two processes"

    def judge() -> Check:
        times = results[TWO].rate / results[ALONE].rate
        text = f"{times:.2f} times as fast as one (at least {TWO_PROCESSES})"
        return Check(name, times >= TWO_PROCESSES, text)

    yield _check(name, results, [ALONE, TWO], judge)


# --- memory ---

_LARGE_BYTES = 1_048_000
"""Just below what an entity may have, 1,048,572 bytes."""
_FEW_FAIL, _MANY_FAIL = 40, 2
"""One entity in 40, and in 2, fails: 5,000 and 100,000 of 200,000 entities."""

_PAIRS = {
    "memory": ("bulkup, few entities", "bulkup, many entities"),
    "memory, 8 shards": ("bulkup, 8 shards, few", "bulkup, 8 shards, many"),
    "memory, failures": ("bulkup, 1 of 40 fails", "bulkup, 1 of 2 fails"),
    "memory, 1 MiB": ("bulkup, few of 1 MiB", "bulkup, many of 1 MiB"),
}


def _memory_rows(sizes: Sizes) -> list[Row]:
    plain = [Settings(entities=n) for n in sizes.memory]
    failing = [Settings(entities=sizes.failing)] * 2
    large = [Settings(entities=n, body_bytes=_LARGE_BYTES) for n in sizes.large]
    rows = []
    for name, settings in zip(_PAIRS["memory"], plain, strict=True):
        rows.append(bulkup(name, "Touch", settings))
    for name, settings in zip(_PAIRS["memory, 8 shards"], plain, strict=True):
        rows.append(bulkup(name, "Touch", settings, "shards=8"))
    for name, settings, every in zip(
        _PAIRS["memory, failures"], failing, (_FEW_FAIL, _MANY_FAIL), strict=True
    ):
        rows.append(bulkup(name, "Failing", settings, "max_failures=-1", f"p.every={every}"))
    for name, settings in zip(_PAIRS["memory, 1 MiB"], large, strict=True):
        rows.append(bulkup(name, "Touch", settings))
    return rows


def _memory_checks(results: Mapping[str, Result]) -> Iterator[Check]:
    for name, (few, many) in _PAIRS.items():

        def judge(name: str = name, few: str = few, many: str = many) -> Check:
            least, most = results[few].peak_mib, results[many].peak_mib
            text = f"{most:.0f} MiB against {least:.0f} MiB (at most {MORE_MEMORY} times)"
            return Check(name, most <= least * MORE_MEMORY, text)

        yield _check(name, results, [few, many], judge)


# --- Apache Beam ---

ON_BEAM, IN_RANGES = "bulkup, on Beam", "bulkup, one process"


def _beam_rows(sizes: Sizes) -> list[Row]:
    rows = []
    for entities in (sizes.peers // 5, sizes.peers):
        settings = Settings(entities=entities)
        rows += [
            bulkup(_sized(IN_RANGES, entities), "Touch", settings),
            peer(_sized(ON_BEAM, entities), "on_beam", settings),
        ]
    settings = Settings(entities=sizes.slow_peers)
    return [
        *rows,
        peer("Beam, DatastoreIO", "beam", settings),
        peer("Beam, DatastoreIO, ramping for one worker", "beam_ramping", settings),
    ]


def _sized(name: str, entities: int) -> str:
    return f"{name}, {entities:,}"


def _beam_checks(results: Mapping[str, Result]) -> Iterator[Check]:
    """What a further entity costs; a pipeline costs seconds before the first one."""
    few, many = sorted({result.row.settings.entities for name, result in results.items()
                        if name.startswith(ON_BEAM)})  # fmt: skip

    def slope(name: str) -> float:
        totals = [results[_sized(name, n)].cpu_us * n for n in (few, many)]
        return (totals[1] - totals[0]) / (many - few)

    def judge() -> Check:
        beam, alone = slope(ON_BEAM), slope(IN_RANGES)
        text = (
            f"{beam:.1f} µs for a further entity, {beam / alone:.2f} times {IN_RANGES} "
            f"(at most {BEAM_SLOPE})"
        )
        return Check("CPU on Beam", beam <= alone * BEAM_SLOPE, text)

    needed = [_sized(name, n) for name in (ON_BEAM, IN_RANGES) for n in (few, many)]
    yield _check("CPU on Beam", results, needed, judge)


SCENARIOS = (
    Scenario("peers", "no latency", _peer_rows, _peer_checks),
    Scenario("round-trips", f"{ROUND_TRIP_MS} ms for every call", _far_rows, _far_checks),
    Scenario(
        "slow-commits", f"{PAGE_MS} ms for a page, {SLOW_MS} or {SLOWER_MS} ms for a commit",
        _slow_rows, _slow_checks, repeats=False,
    ),
    Scenario("processes", "an updater that computes", _process_rows, _process_checks),
    Scenario("memory", "peak memory", _memory_rows, _memory_checks),
    Scenario("beam", "on Apache Beam's own runner, one process", _beam_rows, _beam_checks),
)  # fmt: skip
