"""The error of a handler says what may have been meant: a property, an `await`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater
from tests.conftest import Server
from tests.engine.conftest import Run, fill

pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""An `await` that is forgotten is what some of them are about."""


class Things(Updater):
    max_failures = -1
    kind = "Thing"


def failure(run: Run, server: Server, updater: Any) -> str:
    fill(server, "Thing", 1, first_name="Ada")
    return str(run(server, updater).failures[0].error)


def test_a_property_that_an_entity_lacks_names_one_that_it_has(embedded: Server, run: Run) -> None:
    class One(Things):
        def handle_entity(self, entity: Entity) -> None:
            entity["x"] = entity["frist_name"]

    class Batch(Things):
        def handle_batch(self, entities: list[Entity]) -> None:
            for entity in entities:
                entity["x"] = entity["frist_name"]

    class Async(Things):
        async def handle_entity(self, entity: Entity) -> None:
            entity["x"] = entity["frist_name"]

    for updater in (One, Batch, Async):
        says = "KeyError: 'frist_name' (did you mean 'first_name'?)"
        assert failure(run, embedded, updater) == says, updater

    class Nothing(Things):
        def handle_entity(self, entity: Entity) -> None:
            {}[entity["i"]]

    assert failure(run, embedded, Nothing) == "KeyError: 1"


MADE: list[Coroutine[Any, Any, str]] = []


def found() -> Coroutine[Any, Any, str]:
    """What an `async def` returns."""

    async def find() -> str:
        return "x"

    MADE.append(find())
    return MADE[-1]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Python complains of what nobody has awaited: here, and in no later test."""
    yield
    while MADE:
        MADE.pop().close()
    gc.collect()


def put_as_is(self: Any, entity: Entity) -> None:
    entity["x"] = found()
    self.put(entity)


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (lambda self, entity: found(), "returned a coroutine, which writes nothing: what is async "
         "in it has not run; write `async def`, and await it there"),
        (lambda self, entity: self.aget([entity.key])[0], "; await it in an `async def`, or call "
         "what is not async: self.get, not self.aget"),
        (put_as_is, "cannot store a coroutine; use what it returns: await it, in an async def"),
    ],
)  # fmt: skip
def test_what_is_not_awaited_says_so(
    embedded: Server, run: Run, handler: Callable[..., Any], says: str
) -> None:
    updater = type("Forgets", (Things,), {"handle_entity": handler})
    assert says in failure(run, embedded, updater)


def test_an_await_too_few_or_too_many_in_an_async_handler(embedded: Server, run: Run) -> None:
    class Few(Things):
        async def handle_entity(self, entity: Entity) -> None:
            self.aget([entity.key])[0]  # type: ignore[index]

    class Many(Things):
        async def handle_entity(self, entity: Entity) -> None:
            await self.get([entity.key])  # type: ignore[misc]

    assert "; an `await` is missing before what is async" in failure(run, embedded, Few)
    assert "; only what is async is awaited" in failure(run, embedded, Many)


def test_a_function_that_returns_a_coroutine_says_what_to_write(embedded: Server, run: Run) -> None:
    @bulkup.updater(kind="Thing", max_failures=-1)
    def fix(entity: Entity) -> Any:
        return found()

    assert "has not run; write `async def`" in failure(run, embedded, fix)
