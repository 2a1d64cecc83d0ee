"""The stored form of a run record.

Runs begun by another version of bulkup are resumed from this form, so it does not change: a
property may be added, and what is stored today must stay readable
(`tests/state/data/run_records.json`).
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import Any

from bulkup.core.errors import StateError
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.records import Origin, RunInfo, Shard, is_run_id
from bulkup.core.selection import Selection
from bulkup.core.steering import UNSTEERED, Steering, read_stored
from bulkup.datastore.keys import key_text
from bulkup.datastore.messages import Pb
from bulkup.state.range_codec import (
    part_from_json,
    part_to_json,
    plan_of_ranges_from_json,
    plan_of_ranges_to_json,
)
from bulkup.state.raw_entities import Stored, read_properties, write_properties
from bulkup.state.record import (
    Chain,
    Holder,
    Layout,
    LeaseTerms,
    Made,
    MigrationInfo,
    RunRecord,
)
from bulkup.state.terms_codec import gate_from_json, gate_to_json, plan_from_json, plan_to_json

_INDEXED = frozenset(
    (
        "updater", "state", "started", "identity", "open", "sweep_at", "migration",
        "done", "done_as",
    )
)  # fmt: skip


def write_record(pb: Pb, key: Pb, record: RunRecord) -> None:
    """Fill an empty Entity message."""
    run_info, lease, layout = record.run_info, record.lease, record.layout
    holder, started = lease.holder, datetime.fromisoformat(run_info.created)
    values: dict[str, Stored] = {
        # For people who read it in the cloud console.
        "updater": run_info.updater,
        "description": run_info.description,
        "state": record.state.value,
        "reason": record.reason or "",
        "who": holder.who if holder else "",
        "started": started,
        "ended": _time(record.ended),
        "parameters": json.dumps(run_info.params),
        "counts": json.dumps(record.counts.stored()),
        "lease_until": _time(lease.until),
        # For the next runner.
        "identity": run_info.identity,
        "open": not record.state.is_over,
        "record": json.dumps(run_info.stored()),
        "holder": json.dumps(asdict(holder)) if holder else "",
        "generation": lease.generation,
        "shards": json.dumps([_shard_to_json(shard) for shard in layout.shards]),
        "next_shard": layout.next_shard,
        "settled": json.dumps(layout.settled.stored()),
        "fenced_until": layout.fenced_until,
        "moved_in": layout.moved_in or "",
        "keep": record.keep,
    }
    _add_ranges(values, record)
    if layout.sweep_at:
        values["sweep_at"] = _time(layout.sweep_at)
    if layout.sweep_seen:
        values["sweep_seen"] = json.dumps(layout.sweep_seen)
    if record.total is not None:
        values["total"] = record.total
    if record.kinds:
        # In base64 like the bounds of shards, so that in the traffic of a run the name of a user's
        # kind only appears where its entities are read or written.
        values["kinds"] = json.dumps([base64.b64encode(k.encode()).decode() for k in record.kinds])
    if record.warm:
        values["warm"] = json.dumps(record.warm)
    if record.chain.links:
        values |= {"chain": json.dumps(record.chain.links), "work": record.chain.work or ""}
    _add_terms(values, record)
    if record.steering != UNSTEERED:
        values["steering"] = json.dumps(record.steering.stored())
        values["obeyed"] = record.obeyed
    if record.undone_by:
        values["undone_by"] = record.undone_by
        if record.undone_partly:
            values["undone_partly"] = True
    is_whole = record.part is None and not record.chain.links
    if record.listed and is_whole and record.state is RunState.FINISHED:
        end = f"{record.ended:012d}/{run_info.run_id}"
        values["done"] = f"{done_prefix(run_info.identity)}/{end}"
        values["done_as"] = f"{done_prefix(run_info.identity, run_info.checksum)}/{end}"
    if record.migration:
        values |= _migration_values(record.migration)
        # How long an ended run took, including the pauses between its runners.
        took_s = max(0, record.ended - int(started.timestamp()))
        values["seconds"] = took_s if record.ended else None
    pb.key.CopyFrom(key)
    write_properties(pb, values, _INDEXED)


def done_prefix(identity: str, *source: str) -> str:
    """What `done` and `done_as` begin with, before a slash: see `state/finished_runs.py`."""
    return "/".join((identity, *source))


def _add_ranges(values: dict[str, Stored], record: RunRecord) -> None:
    if record.ranges is not None:
        values["ranges"] = json.dumps(plan_of_ranges_to_json(record.ranges))
        if not record.state.is_over:
            # A version that knows no ranges refuses a record without this property. An empty one
            # would mean to it that every entity is done.
            del values["shards"]
    if record.part is not None:
        values["part"] = json.dumps(part_to_json(record.part))


def _add_terms(values: dict[str, Stored], record: RunRecord) -> None:
    if record.gate is not None:
        values["gate"] = json.dumps(gate_to_json(record.gate))
    if record.plan is not None:
        values["plan"] = json.dumps(plan_to_json(record.plan))
    if record.made != Made():
        values["made"] = json.dumps(asdict(record.made))


def _migration_values(migration: MigrationInfo) -> dict[str, Stored]:
    return {
        "migration": migration.name,
        "code": migration.code,
        "marked": migration.marked or "",
        "bulkup_version": migration.origin.version,
        "ci_job": migration.origin.ci_job,
        "git_commit": migration.origin.git_commit,
        **({"renamed_from": json.dumps(migration.former)} if migration.former else {}),
    }


def record_of(result: Pb) -> RunRecord:
    """The record in an EntityResult. Raises what `read_record` raises."""
    record = read_record(result.entity, result.version)
    return replace(record, created_ns=result.create_time.ToNanoseconds())


def read_record(pb: Pb, version: int) -> RunRecord:
    """Raises StateError for a record that is not one of ours, or of another version of bulkup."""
    try:
        record = _parse(read_properties(pb), version)
        _check(record, pb.key.path[-1].name)
        return record
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"the run record {key_text(pb.key)} was written by another version of bulkup: run "
            "that version, or delete the record if you no longer need its run",
            details=f"{type(error).__name__}: {error}",
        ) from error


def _check(record: RunRecord, name: str) -> None:
    """Check a record: anybody who can write to this Datastore may have written it.

    Raises TypeError, ValueError.
    """
    if record.run_info.run_id != name:
        raise ValueError(f"it is the record of run {record.run_info.run_id!r}")
    numbers = [
        record.lease.generation,
        record.layout.next_shard,
        record.layout.fenced_until,
        record.layout.sweep_at,
        record.lease.until,
        record.ended,
        record.total or 0,
        record.obeyed,
        *(shard.id for shard in record.layout.shards),
        *asdict(record.counts).values(),
        *asdict(record.layout.settled).values(),
    ]
    if not all(isinstance(number, int) for number in numbers):
        raise TypeError("a number is expected")
    if not all(isinstance(number, (int, float)) for number in record.warm):
        raise TypeError("a number is expected")
    holder = record.lease.holder
    if holder is not None:
        texts = (holder.runner, holder.who, holder.machine, holder.began)
        if not (all(isinstance(text, str) for text in texts) and _is_pid(holder.pid)):
            raise TypeError("its holder is not a process")
    if not all(isinstance(link, str) for link in record.chain.links):
        raise TypeError("its chain is not a list of strings")


def _is_pid(value: object) -> bool:
    return isinstance(value, int) and 0 < value < 2**31


def _parse(values: dict[str, Any], version: int) -> RunRecord:
    holder = values["holder"]
    if "ranges" in values:
        values.setdefault("shards", "[]")
    return RunRecord(
        run_info=run_info_from_json(json.loads(values["record"])),
        state=RunState(values["state"]),
        reason=values["reason"] or None,
        counts=Counts(**json.loads(values["counts"])),
        total=values.get("total"),
        ended=values["ended"] or 0,
        lease=LeaseTerms(
            Holder(**json.loads(holder)) if holder else None,
            values["lease_until"] or 0,
            values["generation"],
        ),
        layout=Layout(
            shards=tuple(_shard_from_json(raw) for raw in json.loads(values["shards"])),
            next_shard=values["next_shard"],
            settled=Counts(**json.loads(values["settled"])),
            fenced_until=values["fenced_until"],
            sweep_at=values.get("sweep_at") or 0,
            sweep_seen=tuple(
                (machine, at) for machine, at in json.loads(values.get("sweep_seen") or "[]")
            ),
            moved_in=values["moved_in"] or None,
        ),
        migration=_parse_migration(values),
        chain=Chain(tuple(json.loads(values.get("chain") or "[]")), values.get("work") or None),
        made=_parse_made(json.loads(values.get("made") or "{}")),
        gate=gate_from_json(json.loads(values.get("gate") or "null")),
        plan=plan_from_json(json.loads(values.get("plan") or "null")),
        kinds=tuple(
            base64.b64decode(kind).decode() for kind in json.loads(values.get("kinds") or "[]")
        ),
        warm=tuple(json.loads(values.get("warm") or "[]")),
        steering=_parse_steering(values.get("steering")),
        obeyed=values.get("obeyed") or 0,
        undone_by=str(values.get("undone_by") or ""),
        undone_partly=bool(values.get("undone_partly")),
        ranges=plan_of_ranges_from_json(json.loads(values.get("ranges") or "null")),
        part=part_from_json(json.loads(values.get("part") or "null")),
        keep=values["keep"],
        listed="done" in values or values["state"] != RunState.FINISHED.value,
        version=version,
    )


def _parse_steering(text: str | None) -> Steering:
    """Steering that only a later version understands counts as none."""
    try:
        return read_stored(json.loads(text)) if text else UNSTEERED
    except (ValueError, TypeError, RecursionError):
        return UNSTEERED


def _parse_made(raw: dict[str, Any]) -> Made:
    known_in = raw.get("known_in")
    return Made(
        int(raw.get("since_ns", 0)),
        int(raw.get("record_ns", 0)),
        None if known_in is None else str(known_in),
    )


def _parse_migration(values: dict[str, Any]) -> MigrationInfo | None:
    if not values.get("migration"):
        return None
    return MigrationInfo(
        values["migration"],
        values.get("code") or "",
        values.get("marked") or None,
        Origin(
            values.get("bulkup_version") or "",
            values.get("ci_job") or "",
            values.get("git_commit") or "",
        ),
        tuple(str(name) for name in json.loads(values.get("renamed_from") or "[]")),
    )


def run_info_from_json(raw: dict[str, Any]) -> RunInfo:
    """A RunInfo from what `RunInfo.stored` returned. Raises KeyError, TypeError, ValueError."""
    passes = raw.get("passes")
    passes = None if passes is None else tuple(passes)
    given = {
        "target": TargetInfo(**raw["target"]),
        "passes": passes,
        "selection": Selection.of(raw.get("selection", {})),
    }
    run_info = RunInfo(**{**raw, **given})
    if not all(isinstance(number, int) for number in (run_info.since_ns, *(passes or ()))):
        raise TypeError("a number is expected")
    for run_id in (run_info.run_id, *filter(None, [run_info.retry_of])):
        if not is_run_id(run_id):
            raise ValueError(f"{run_id!r} is not the id of a run")
    texts = {**asdict(run_info), **asdict(run_info.target), **run_info.params}
    for name in ("params", "target", "passes", "since_ns", "selection"):
        del texts[name]
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError("a string is expected")
    datetime.fromisoformat(run_info.created)
    return run_info


def _time(unix: int) -> datetime | None:
    return datetime.fromtimestamp(unix, timezone.utc) if unix else None


def _shard_to_json(shard: Shard) -> list[Any]:
    bounds = (shard.start, shard.end, shard.after, shard.upto)
    return [shard.id, *(base64.b64encode(bound).decode() for bound in bounds)]


def _shard_from_json(raw: list[Any]) -> Shard:
    start, end, after, upto = (base64.b64decode(bound) for bound in raw[1:])
    return Shard(raw[0], start, end, low_cursor=start, after=after, upto=upto)
