"""The function form of what users write.

@bulkup.updater(kind="Person")
def add_full_name(entity, *, sep: str = " "):
    entity["full_name"] = sep.join([entity["first"], entity["last"]])
    return entity
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import isasyncgen, isawaitable, signature
from typing import TYPE_CHECKING, Any, TypeVar, cast

from bulkup.authoring.updater import CHECKS, Updater, is_async
from bulkup.authoring.writes import Delete, apply_patch
from bulkup.authoring.wrong_result import wrong_result
from bulkup.core.errors import UsageError
from bulkup.core.similar import likely_meant

if TYPE_CHECKING:
    from google.cloud.datastore import Client, Entity, Query

F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D", bound=Callable[..., Any])

Check = Callable[["Client"], "bool | str | None"]
"""See `Updater.check_before`."""

SPEC_ATTRIBUTE = "__bulkup_updater__"


@dataclass(frozen=True)
class FunctionSpec:
    """What the `updater` decorator says about a function."""

    kind: str | type[Any] | None
    query: Callable[[Client], Query] | None
    filters: Sequence[tuple[str, str, Any]]
    order: Sequence[str]
    keys_only: bool
    max_failures: int | str
    rewrite_unchanged: bool
    allow_unwritten_changes: bool
    then: Any
    once: bool = False
    is_done: Callable[..., Any] | None = None
    check_before: Check | None = None
    check_after: Check | None = None
    healthy: Callable[[], bool | str | None] | None = None
    idempotent: bool = False
    batch: bool = False
    concurrency: int = Updater.concurrency
    ignore_warnings: Collection[str] = ()


def _named_right(decorator: D) -> D:
    """Suggest what a misspelled argument may have meant; Python says only that it is unexpected."""
    known = signature(decorator).parameters

    @wraps(decorator)
    def checked(*args: Any, **named: Any) -> Any:
        for name in named.keys() - known:
            close = likely_meant(name, known)
            raise UsageError(
                f"@bulkup.updater has no argument {name}"
                + (f"; did you mean {close[0]}?" if close else f"; it takes {', '.join(known)}")
            )
        return decorator(*args, **named)

    return cast(D, checked)


@_named_right
def updater(  # noqa: PLR0913  # the attributes of a class, by name
    kind: str | type[Any] | None = None,
    *,
    query: Callable[[Client], Query] | None = None,
    filters: Sequence[tuple[str, str, Any]] = (),
    order: Sequence[str] | str = (),
    keys_only: bool = False,
    max_failures: int | str = 0,
    rewrite_unchanged: bool = False,
    allow_unwritten_changes: bool = False,
    then: Any = None,
    once: bool = False,
    is_done: Callable[..., bool] | None = None,
    check_before: Check | None = None,
    check_after: Check | None = None,
    healthy: Callable[[], bool | str | None] | None = None,
    idempotent: bool = False,
    batch: bool = False,
    concurrency: int = Updater.concurrency,
    ignore_warnings: Collection[str] = (),
) -> Callable[[F], F]:
    """Turn a function into an updater; the function itself stays callable as before.

    It gets an entity and returns what to write: an Entity, a dict of the properties to change in
    the one it got, `bulkup.delete()` to delete that one, several of these (in a list, or yielded),
    or None for nothing. Its keyword-only arguments are the updater's parameters.

    `kind`, with `filters` (`("age", ">=", 18)`) and `order`, selects the entities; `keys_only`
    reads nothing but their keys. Or give `query`, a function that takes a
    `google.cloud.datastore.Client` and returns a query. `then` is the
    updater to run when this one has finished, and `once` does nothing when the same work was
    finished before, as in a class; so are `idempotent`, `max_failures`, `rewrite_unchanged` and
    `allow_unwritten_changes`: without it, a function that changes the entity and does not return
    it stops the run. `is_done` takes an entity, and those parameters that it names, and says
    whether the entity is as this updater leaves it (`bulkup verify`).
    `check_before` and `check_after` are functions that take a client, and do what the methods of
    these names do, and so does `healthy`, which takes nothing. `ignore_warnings` names kinds of
    warnings about the function that are not to be given, such as "naive_datetime".

    With `batch`, the function gets a list of entities, and returns (or yields) one result for each,
    in their order: what it would return for that entity alone, or an exception if that one has
    failed. An `async def` function handles `concurrency` entities at once.
    Raises UsageError when neither or both are given.
    """
    if callable(kind) and not is_ndb_model(kind):
        raise UsageError('write @bulkup.updater(kind="..."), with the kind of entity to handle')
    if (kind is None) == (query is None):
        raise UsageError("@bulkup.updater needs either kind=... or query=...")
    if not (is_done is None or callable(is_done)):
        raise UsageError("@bulkup.updater: is_done= takes a function that gets an entity")
    if query is None:
        _check_selection(kind, filters)
    elif not callable(query):
        raise UsageError("@bulkup.updater: query= takes a function that gets a client")
    elif filters or order or keys_only:
        raise UsageError("@bulkup.updater: filters, order and keys_only go with kind=, not query=")
    for name, check in (("check_before", check_before), ("check_after", check_after)):
        if check is not None and not callable(check):
            raise UsageError(f"@bulkup.updater: {name}= takes a function that gets a client")
    if not (healthy is None or callable(healthy)):
        raise UsageError("@bulkup.updater: healthy= takes a function without arguments")
    spec = FunctionSpec(
        kind=kind,
        query=query,
        filters=tuple(filters),
        order=(order,) if isinstance(order, str) else tuple(order),
        keys_only=keys_only,
        max_failures=max_failures,
        rewrite_unchanged=rewrite_unchanged,
        allow_unwritten_changes=allow_unwritten_changes,
        then=then,
        once=once,
        is_done=is_done,
        check_before=check_before,
        check_after=check_after,
        healthy=healthy,
        idempotent=idempotent,
        batch=batch,
        concurrency=concurrency,
        ignore_warnings=ignore_warnings,
    )

    def mark(function: F) -> F:
        if isinstance(function, type):
            raise UsageError(
                f"@bulkup.updater is for functions; make the class {function.__name__} "
                "a subclass of bulkup.Updater instead"
            )
        setattr(function, SPEC_ATTRIBUTE, spec)
        return function

    return mark


def is_ndb_model(kind: Any) -> bool:
    """Whether `kind` is a google-cloud-ndb model. Does not import ndb to find out."""
    model = getattr(sys.modules.get("google.cloud.ndb.model"), "Model", None)
    return isinstance(kind, type) and model is not None and issubclass(kind, model)


def _check_selection(kind: Any, filters: Sequence[Any]) -> None:
    if not ((isinstance(kind, str) and kind) or is_ndb_model(kind)):
        raise UsageError(f"@bulkup.updater: kind= takes the name of a kind, not {kind!r}")
    for filter_ in filters:
        # A bare ("age", ">=", 18), without a list around it, would be read character by character.
        if not isinstance(filter_, (tuple, list)) or len(filter_) != 3:
            raise UsageError(
                '@bulkup.updater: filters= takes a list such as [("age", ">=", 18)]; '
                f"{filter_!r} is not a filter"
            )


class FunctionUpdater(Updater):
    """A decorated function as an Updater: the engine knows only classes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        spec = getattr(function, SPEC_ATTRIBUTE, None)
        if not isinstance(spec, FunctionSpec):
            raise UsageError(
                f"{getattr(function, '__name__', function)!r} is not an updater; "
                'mark the function with @bulkup.updater(kind="...")'
            )
        self.function = self._decorated = function
        self._form = "handle_batch" if spec.batch else "handle_entity"
        self._is_async = is_async(function)
        self.spec = spec
        self.max_failures = spec.max_failures
        self.rewrite_unchanged = spec.rewrite_unchanged
        self.allow_unwritten_changes = spec.allow_unwritten_changes
        self.once = spec.once
        self.idempotent = spec.idempotent
        self.concurrency = spec.concurrency
        self.ignore_warnings = spec.ignore_warnings
        self.arguments: dict[str, Any] = {}
        for name in CHECKS:
            if getattr(spec, name) is not None:
                setattr(self, name, getattr(spec, name))
        if spec.healthy is not None:
            self.healthy = spec.healthy  # type: ignore[method-assign]

    def get_query(self) -> Query:
        spec = self.spec
        if spec.query is not None:
            return spec.query(self.client)
        from google.cloud.datastore.query import PropertyFilter

        query = self.client.query(kind=spec.kind, order=list(spec.order))
        for filter_ in spec.filters:
            query.add_filter(filter=PropertyFilter(*filter_))
        if spec.keys_only:
            query.keys_only()
        return query

    def handle_entity(self, entity: Entity) -> None:
        result = self.function(entity, **self.arguments)
        if result is entity:
            self.put(entity)
        elif result is not None:
            self._write(result, entity)

    async def handle_async(self, entity: Entity) -> None:
        """Like `handle_entity`, for an async function."""
        result = self.function(entity, **self.arguments)
        if not isasyncgen(result):
            self._write(await result if isawaitable(result) else result, entity)
            return
        self._writing().may_change_after_put = True  # until the next item is requested
        async for item in result:
            self._write(item, entity, "a generator")

    def handle_batch(self, entities: list[Entity]) -> None:
        results = self.function(list(entities), **self.arguments)
        if results is None:
            return
        if isinstance(results, (str, bytes, Mapping)) or not isinstance(results, Iterable):
            raise TypeError(one_for_each(f"a {type(results).__name__}"))
        results = list(results)
        if len(results) != len(entities):
            raise TypeError(one_for_each(f"{len(results)} for {len(entities)} entities"))
        for entity, result in zip(entities, results, strict=True):
            if isinstance(result, BaseException):
                self.fail(entity, result)
            else:
                self._write(result, entity, owner=entity)

    def _write(
        self, result: Any, entity: Entity, inside: str = "", owner: Entity | None = None
    ) -> None:
        """Write what the function returned for `entity`. `inside`: the collection that held the
        result. `owner`: in a batch, the entity that the write belongs to."""
        from google.cloud.datastore import Entity

        if result is None:
            return
        if isinstance(result, Entity):
            self.put(result, owner=owner)
        elif isinstance(result, Mapping):
            apply_patch(entity, result)
            if self._models is not None:
                self._models.check_patched(entity, result)
            self.put(entity, owner=owner)
        elif isinstance(result, Delete):
            self.delete(entity if result.keys is None else result.keys, owner=owner)
        elif isinstance(result, Iterable) and not isinstance(result, (str, bytes)):
            if isinstance(result, Iterator):
                sink = self._writing() if owner is None else self._writing().owned_by(owner)
                sink.may_change_after_put = True  # until the next item is requested
            inside = f"a {type(result).__name__}"
            for item in result:
                self._write(item, entity, inside, owner)
        else:
            raise wrong_result(self.function, result, inside)


def one_for_each(returned: str) -> str:
    return (
        "a function of a batch returns one result for each of its entities, in their order (None: "
        f"nothing is written for that one); this one returned {returned}"
    )
