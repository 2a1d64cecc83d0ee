"""One request, two servers, one verdict."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format

from tests.local.differential.answers import Refusal, Scan, scan
from tests.local.differential.build import Place
from tests.local.differential.wire import REQUESTS, Reply, Wire

Answer = tuple[str, ...]

SHOWN = 2000
"""How many characters of a request, or of a line of an answer, a failure shows."""


@dataclass(frozen=True)
class Exchange:
    """A request and both answers. With `place`, a difference can send further requests."""

    ours: Wire
    theirs: Wire
    place: Place
    method: str
    request: Any
    our_answer: Answer
    their_answer: Answer
    their_moments: Answer | None = None
    """For a commit: the other server's answer, with all versions of one commit counted as one."""

    def __str__(self) -> str:
        diff = difflib.unified_diff(
            self.their_answer, self.our_answer, self.theirs.name, self.ours.name, lineterm="", n=2
        )
        refusals = [
            f"{wire.name} says: {said.words[:300]}"
            for wire, answer in ((self.theirs, self.their_answer), (self.ours, self.our_answer))
            for said in answer
            if isinstance(said, Refusal)
        ]
        asked = say_request(self.request)[:SHOWN]
        return "\n".join([f"{self.method} {asked}", *(line[:SHOWN] for line in diff), *refusals])


@dataclass(frozen=True)
class Difference:
    """One deliberate difference of the embedded server.

    `restate` turns an emulator's answer into what the embedded server would answer, or returns it
    unchanged where the difference does not apply. It must be as narrow as possible: a difference
    that covers too much hides bugs. `example` is an exchange that needs this difference, so that
    none is stale.
    """

    id: str
    where: str
    """The emulators that differ: "FS", "LF" or "FS, LF"."""
    what: str
    reason: str
    restate: Callable[[Exchange, Answer], Answer]
    example: Callable[[Judge, Place], Exchange]


class Judge:
    """Compares two servers, with the differences that concern the other one."""

    def __init__(self, ours: Wire, theirs: Wire, table: Iterable[Difference]) -> None:
        self.ours = ours
        self.theirs = theirs
        self.table = tuple(d for d in table if theirs.name in d.where.split(", "))

    def both(self) -> tuple[Wire, Wire]:
        return self.ours, self.theirs

    def check(self, exchange: Exchange) -> bool:
        """True for equal answers, False for a difference in the table. Others fail the test."""
        if exchange.our_answer == exchange.their_answer:
            return True
        if self.explanation(exchange):
            return False
        raise AssertionError(f"the servers differ, and no row of DIFFERENCES says so\n{exchange}")

    def explanation(self, exchange: Exchange) -> tuple[str, ...]:
        """The ids of the differences that explain the answers; none if they are not explained."""
        restated, rows = exchange.their_answer, []
        for difference in self.table:
            before = restated
            restated = difference.restate(exchange, before)
            if restated != before:
                rows.append(difference.id)
            if restated == exchange.our_answer:
                return tuple(rows)
        return ()

    def exchange(
        self, place: Place, method: str, request: Any, say: Callable[[Any], Answer]
    ) -> Exchange:
        """Send one request to both; `say` describes a response."""
        answers = [answer(wire.call(method, request), say) for wire in self.both()]
        return Exchange(self.ours, self.theirs, place, method, request, answers[0], answers[1])

    def same(self, place: Place, method: str, request: Any, say: Callable[[Any], Answer]) -> bool:
        return self.check(self.exchange(place, method, request, say))

    def scans(self, place: Place, query: Any) -> tuple[Exchange, Scan, Scan]:
        ours, theirs = scan(self.ours, place, query), scan(self.theirs, place, query)
        exchange = Exchange(
            self.ours, self.theirs, place, "RunQuery", query, ours.answer(), theirs.answer()
        )
        return exchange, ours, theirs

    def same_scan(self, place: Place, query: Any) -> bool:
        return self.check(self.scans(place, query)[0])

    def store(self, place: Place, entities: Iterable[Any]) -> None:
        """Put the same entities into both servers; both must accept them."""
        request = REQUESTS["Commit"](project_id=place.project, mode=2)
        for entity in entities:
            request.mutations.add().upsert.CopyFrom(entity)
        for wire in self.both():
            reply = wire.call("Commit", request)
            if reply.code != "OK":
                raise AssertionError(
                    f"{wire.name} does not take the data: {reply.code} {reply.message}\n"
                    f"{say_request(request)}"
                )


def answer(reply: Reply, say: Callable[[Any], Answer]) -> Answer:
    return ("OK", *say(reply.body)) if reply.code == "OK" else (Refusal.of(reply),)


def say_request(request: Any) -> str:
    if isinstance(request, str):
        return request
    return str(text_format.MessageToString(request, as_one_line=True, as_utf8=True))
