"""Put entities back as they were at a time: what `bulkup rewind` calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from bulkup.authoring.param import param
from bulkup.core.clock import Clock
from bulkup.core.difference import SideInfo
from bulkup.core.errors import UsageError
from bulkup.core.events import PropertyChange, WouldChange
from bulkup.core.moment import NOW, Moment, read_time, shown
from bulkup.core.rewinding import Action, Kept, KeptEntity, KindRewind, RewindReport
from bulkup.datastore.entity_compare import PropertyDifference, properties_of, text_of
from bulkup.datastore.keys import key_of
from bulkup.datastore.target import Target
from bulkup.engine.compare.comparison import Difference, Scope
from bulkup.engine.compare.rewinding import Rewinding, Rules, Step, WrittenAt
from bulkup.engine.compare.side import Side
from bulkup.engine.compare.tally import FirstOf, KindTally
from bulkup.engine.restore import Restorer
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.restore import prepare_restore
from bulkup.runs.sides import check_scope, check_something_compared, open_side
from bulkup.runs.target import TargetOptions
from bulkup.state.restore_list import Restore, Restores

TELL_EVERY = 500


class Rewind(Restorer):
    """Put entities back as they were at a time."""

    kind: str = param(help="the kinds that are put back")
    to: str = param(help="the time")
    where: str = param("", help="the conditions")
    properties: str = param("", help="the properties that are put back; empty: whole entities")
    keep_after: str = param("", help="what was written later is left alone")
    delete_new: bool = param(False, help="what was created since is deleted")


@dataclass(frozen=True)
class RewindOptions:
    """What the user asked for."""

    to: Moment
    scope: Scope
    properties: tuple[str, ...] = ()
    keep_after: Moment | None = None
    deletes_new: bool = False
    selection: str = ""
    """The selection that has chosen some of these entities, in words."""
    is_wanted: Callable[[Difference], bool] = lambda difference: True
    """Whether the selection has chosen this entity. A difference that is not wanted counts as the
    same."""


@dataclass
class RewindTally:
    """Counts of a comparison, by kind. Its size does not grow with the number of entities."""

    _kinds: dict[str, tuple[KindTally, Counter[Action], Counter[Kept]]] = field(
        default_factory=dict
    )
    compared: int = 0

    def same(self, key: bytes) -> None:
        self.compared += 1
        self._of(str(key_of(key).path[-1].kind))[0].same += 1

    def step(self, step: Step) -> None:
        self.compared += 1
        tally, actions, kept = self._of(step.difference.kind)
        actions[step.action] += 1
        if step.kept is not None:
            kept[step.kept] += 1
        if step.action is Action.PUT_BACK:
            for one in _inside(step):
                tally.note(one.name, one.types())

    def kinds(self) -> tuple[KindRewind, ...]:
        return tuple(
            KindRewind(kind, tally.same, actions, kept, tally.result(kind).properties)
            for kind, (tally, actions, kept) in sorted(self._kinds.items())
        )

    def _of(self, kind: str) -> tuple[KindTally, Counter[Action], Counter[Kept]]:
        return self._kinds.setdefault(kind, (KindTally(), Counter(), Counter()))


@contextmanager
def open_times(target: Target, options: RewindOptions) -> Iterator[tuple[Side, Side, Side | None]]:
    """An open target as of then, as of now, and as of `keep_after` if that is set. Raises
    BulkupError."""
    with ExitStack() as stack:
        then = open_side(stack, target, options.to)
        if then.micros is None:
            raise UsageError("--to needs a time of the past, such as 20m or 2026-11-28T09:00Z")
        now = open_side(stack, target, NOW)
        fence = None
        if options.keep_after is not None:
            fence = open_side(stack, target, options.keep_after)
            if fence.micros is None or fence.micros < then.micros:
                raise UsageError(
                    f"--keep-after is {shown(fence.micros)}, and --to {shown(then.micros)}; give "
                    "the time when the damage was done, which is between --to and now"
                )
        yield then, now, fence


@dataclass(frozen=True)
class FoundSteps:
    """The differences between then and now."""

    report: RewindReport
    sample: Sequence[WouldChange | KeptEntity]
    """The first entities of each action, in key order."""


def compare_times(
    target: Target,
    options: RewindOptions,
    *,
    restores: Restores | None = None,
    sample: int = 0,
    on_progress: Callable[[int], None] = lambda compared: None,
) -> FoundSteps:
    """Compare an open target as of then and now. Reads only.

    `restores` gets what is to be put back. `sample`: for how many entities of each action details
    are wanted. Raises BulkupError.
    """
    check_scope(options.scope)
    clock = Clock()
    started, began = clock.now(), clock.monotonic()
    with open_times(target, options) as (then, now, fence):
        tally, written, firsts = RewindTally(), WrittenAt(), FirstOf[Step](sample)
        partition = now.partition

        def step(found: Step) -> None:
            if not options.is_wanted(found.difference):
                same(found.difference.key)
                return
            tally.step(found)
            firsts.add(str(found.kept or found.action), found.difference.order, found)
            if found.action is not Action.LEAVE:
                written.note(found.difference)
                if restores is not None:
                    key = partition.absolute(found.difference.key)
                    restores.add(key, Restore(found.image(options.properties), found.version))
            tell()

        def same(key: bytes) -> None:
            tally.same(key)
            tell()

        def tell() -> None:
            if tally.compared % TELL_EVERY == 0:
                on_progress(tally.compared)

        rules = Rules(
            options.properties, None if fence is None else fence.micros, options.deletes_new
        )
        Rewinding(then, now, fence, rules, step, same).run(options.scope)
        kinds = tally.kinds()
        with now.explained():
            check_something_compared(now, options.scope, frozenset(one.kind for one in kinds))
        report = RewindReport(
            SideInfo(then.target, then.micros),
            rules.keep_after,
            kinds,
            tuple(written.minutes()),
            started,
            clock.monotonic() - began,
        )
        return FoundSteps(report, [_described(one, now) for one in firsts.items()])


@contextmanager
def prepare_rewind(
    options: RewindOptions,
    report: RewindReport,
    restores: Restores,
    target_options: TargetOptions,
    context: RunContext,
) -> Iterator[PreparedRun]:
    """Prepare the run that puts back what `compare_times` has found. Raises BulkupError."""
    params = {
        "kind": ", ".join(options.scope.kinds),
        "to": read_time(report.then.micros) or "",
        "where": options.selection
        or ", ".join(f"{one.name}={one.value!r}" for one in options.scope.where),
        "properties": ", ".join(options.properties),
        "keep_after": read_time(report.keep_after) or "",
        "delete_new": str(options.deletes_new).lower(),
    }
    source = f"what differs from {shown(report.then.micros)}"
    with prepare_restore(
        Rewind,
        params,
        lambda query, target: restores.list_of(target.namespace, source),
        target_options,
        replace(context, on_done=lambda done: True),
    ) as prepared:
        yield prepared


def _described(step: Step, now: Side) -> WouldChange | KeptEntity:
    key = text_of(now.partition.absolute(step.difference.key))
    if step.kept is not None:
        return KeptEntity(key, step.kept)
    if step.action is Action.DELETE:
        return WouldChange(key, "delete")
    changes = (
        PropertyChange(one.name, *one.texts(), values=partial(one.forms)) for one in _inside(step)
    )
    return WouldChange(key, "put", tuple(changes))


def _inside(step: Step) -> list[PropertyDifference]:
    difference = step.difference
    names = difference.names
    before = properties_of(difference.b and difference.b.entity, names)
    after = properties_of(difference.a and difference.a.entity, names)
    return [PropertyDifference(name, before.get(name), after.get(name)) for name in names]
