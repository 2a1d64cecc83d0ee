"""When a query finds nothing because its kind does not exist: finds out what exists instead.

This is checked before a new run whose query returned no first entity, so a run that finds entities
pays nothing for it. If the server does not list its kinds (the Firestore emulator), the check is
skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from bulkup.authoring.source_files import printable
from bulkup.core.errors import TargetError
from bulkup.core.model import TargetInfo
from bulkup.core.similar import is_one_character_off, is_similar_by_part, similar_names
from bulkup.datastore.call_error import CallError
from bulkup.datastore.metadata import kind_names, namespace_names
from bulkup.datastore.queries import kind_query
from bulkup.datastore.rpc import Rpc
from bulkup.runs.context import RunContext
from bulkup.runs.new_kinds import doubts_of_new_kinds
from bulkup.runs.prepare import PreparedRun
from bulkup.state.kinds import OWN_KINDS

MOST_KINDS = 1000
MOST_NAMESPACES = 200
"""How many names are read: enough to suggest what was meant, and read quickly."""

LISTED_KINDS = 24
LISTED_NAMESPACES = 5


@dataclass(frozen=True)
class _Places:
    """The user's kinds, by namespace; namespaces without any are left out."""

    kinds: Mapping[str, Sequence[str]]
    more_namespaces: bool
    """There are more namespaces than were read."""

    def in_(self, namespace: str) -> Sequence[str]:
        return self.kinds.get(namespace, ())

    def meant_by(self, namespace: str, kind: str) -> list[str]:
        """Other namespaces that hold the kind, and of which the chosen one is probably a
        misspelling.

        A chosen namespace that holds nothing at all is not in use yet, so one character more or
        less is enough.
        """
        is_empty = not self.in_(namespace)
        return [
            name
            for name in self.others_with(kind, namespace)
            if namespace and name
            if is_similar_by_part(namespace, name)
            or (is_empty and is_one_character_off(namespace, name))
        ]

    def others_with(self, kind: str, namespace: str) -> list[str]:
        """Other namespaces that hold a kind; or anything at all, for the empty kind."""
        return [
            name
            for name, kinds in self.kinds.items()
            if name != namespace and (kind in kinds or not kind)
        ]


def check_kind(prepared: PreparedRun) -> None:
    """Check the query's kind before a new run. If it holds nothing at all, note for the report what
    exists instead, and refuse the run if one of those was probably meant.

    A filter that matches nothing is no reason to refuse, because the kind then holds something. In
    a run over many namespaces, some may have no entities of the kind. Only if none has any was
    something else meant. Raises TargetError, CallError.
    """
    query, rpc = prepared.query, prepared.rpc
    prepared.warnings += doubts_of_new_kinds(prepared)
    if query.digest:
        return  # a list of keys leaves no doubt what is meant
    kind = query.pb.kind[0].name if query.pb.kind else ""
    if prepared.first_entity_bytes or kind.startswith("__") or _holds(rpc, kind, query.namespace):
        return
    is_one_of_many = prepared.target.one_of_many
    known = prepared.context.known_places if is_one_of_many else []
    if known and not _reason_to_refuse(known[-1], kind, query.namespace, one_of_many=True):
        return
    places = _look(rpc, query.namespace)
    if places is None or (not kind and places.in_(query.namespace)):
        return
    known.append(places)
    elsewhere = [] if places.kinds else _other_databases(prepared.target.info)
    prepared.nothing_there = message = _message(prepared, places, kind, elsewhere)
    if prepared.context.allow_empty:
        return
    meant = _reason_to_refuse(places, kind, query.namespace, one_of_many=is_one_of_many)
    if elsewhere or any(_holds(rpc, one, namespace) for one, namespace in meant):
        raise TargetError(
            f"{message} Nothing was started; fix the query or the target, or add --allow-empty "
            "(allow_empty=True) if this is expected"
        )


def check_file(target: TargetInfo, context: RunContext) -> None:
    """Refuse a target without any namespace if its file holds another project or database.

    Raises TargetError.
    """
    if not context.allow_empty and (elsewhere := _other_databases(target)):
        raise TargetError(
            f"There are no entities on {target}. The file holds "
            f"{_listed(elsewhere, LISTED_NAMESPACES)}. Nothing was started; fix the target, or add "
            "--allow-empty if this is expected"
        )


def _holds(rpc: Rpc, kind: str, namespace: str) -> bool:
    """Whether a kind holds anything. This reads an entity, because metadata may lag behind."""
    if not kind:
        return False
    query = kind_query(kind, keys_only=True, limit=1)
    return bool(rpc.run_query(query, namespace).result().batch.entity_results)


def _look(rpc: Rpc, namespace: str) -> _Places | None:
    """The kinds in each namespace; None if the server does not list them. Raises CallError when it
    does not answer."""
    try:
        names = list(islice(namespace_names(rpc), MOST_NAMESPACES + 1))
        asked = dict.fromkeys([namespace, *names[:MOST_NAMESPACES]])
        kinds = {
            name: [kind for kind in islice(found, MOST_KINDS) if kind not in OWN_KINDS]
            for name, found in kind_names(rpc, asked)
        }
    except CallError as error:
        if error.worth_another_try:
            raise
        return None
    filled = {name: found for name, found in kinds.items() if found}
    return _Places(filled, len(names) > MOST_NAMESPACES)


def _other_databases(target: TargetInfo) -> list[str]:
    """The other projects and databases with entities in the file of an embedded Datastore, in
    words."""
    if not target.local:
        return []
    from bulkup.local.inventory import databases_in

    found = databases_in(target.local, OWN_KINDS)
    return [
        f"project {project}" + (f" (database {database})" if database else "")
        for project, database in found
        if (project, database) != (target.project, target.database)
    ]


def _reason_to_refuse(
    places: _Places, kind: str, namespace: str, *, one_of_many: bool
) -> list[tuple[str, str]]:
    """The kinds that were probably meant, each with its namespace."""
    others = places.others_with(kind, namespace)
    if one_of_many:
        if others or not kind:
            return []
        return [
            (close, name)
            for name, kinds in places.kinds.items()
            for close in similar_names(kind, kinds)
        ]
    meant = [(close, namespace) for close in similar_names(kind, places.in_(namespace)) if kind]
    # The default namespace was not chosen by anybody. A namespace that was chosen may be new.
    instead = places.meant_by(namespace, kind) if namespace else others
    return meant + [(kind or places.in_(name)[0], name) for name in instead]


def _message(prepared: PreparedRun, places: _Places, kind: str, elsewhere: Sequence[str]) -> str:
    target, namespace = prepared.target.info, prepared.query.namespace
    where = str(target) if namespace else f"{target} (the default namespace)"
    kinds = places.in_(namespace)
    close = (similar_names(kind, kinds) if kind else []) or places.meant_by(namespace, kind)
    meant = f"; did you mean {' or '.join(map(printable, close[:3]))}?" if close else "."
    what = f"is no entity of kind {printable(kind)}" if kind else "are no entities"
    sentences = [f"There {what} on {where}{meant}"]
    if kinds:
        sentences.append(f"Kinds there: {_listed(kinds, LISTED_KINDS)}.")
    elif elsewhere:
        sentences.append(f"The file holds {_listed(elsewhere, LISTED_NAMESPACES)}.")
    elif kind:
        sentences.append("It holds nothing at all: check project, database and namespace.")
    others = places.others_with(kind, namespace)
    if others:
        what = "this kind" if kind else "entities"
        number = f"{len(others)}{' or more' if places.more_namespaces else ''}"
        sentences.append(
            f"{number} other namespace{' holds' if len(others) == 1 else 's hold'} {what}: "
            f"{_listed((name or '(default)' for name in others), LISTED_NAMESPACES)}."
        )
    return " ".join(sentences)


def _listed(names: Iterable[str], most: int) -> str:
    shown = [printable(name) for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
