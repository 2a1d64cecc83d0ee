"""What is noticed about an updater's code: said once, with the line, counted, and never wrongly."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from google.cloud.datastore import Entity

from bulkup.core.errors import UsageError
from bulkup.core.events import OF_CODE, Event, Report, Warned
from bulkup.core.plan import Hazard
from tests.conftest import Server
from tests.engine.conftest import Run, fill
from tests.runs.planning import plan_on

pytestmark = [pytest.mark.sampled(5), pytest.mark.client_side]

EXAMPLES_FOLDER = Path(__file__).parents[2] / "updaters"

IMPORTS = """\
from datetime import datetime, timezone
import bulkup
from bulkup.transforms import RetypeProperty, retype
from google.cloud import datastore
from google.cloud.datastore import Entity, Key
"""

Warn = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def warned(embedded: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Warn:
    """Run a source over 120 entities, and return the kinds and messages of its warnings."""
    fill(embedded, "Thing", 120, price=lambda i: 2 * i, rate=0.5, first_name="Ann", county="Kent")
    monkeypatch.chdir(tmp_path)

    def warnings_of(source: str, **options: Any) -> list[tuple[str, str]]:
        (tmp_path / "fix.py").write_text(IMPORTS + dedent(source))
        events: list[Event] = []
        report: Report = run(embedded, "fix.py", listener=events.append, **options)
        assert report.exit_code == 0, report.reason
        said = [event for event in events if isinstance(event, Warned) and event.kind in OF_CODE]
        assert len(report.warnings) == len(said)
        for event, counted in zip(said, report.warnings, strict=True):
            assert counted.splitlines()[0].startswith(event.message.splitlines()[0])
        return [(event.kind.value, text) for event, text in zip(said, report.warnings, strict=True)]

    return warnings_of


def here(tmp_path: Path) -> int:
    lines = (tmp_path / "fix.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if "#HERE" in line)


ASSIGN = """
@bulkup.updater(kind="Thing")
def fix(entity):
    {statement}  #HERE
    return entity
"""

DOUBTS = [
    ("naive_datetime", "entity['at'] = datetime.now()", "which Datastore takes as UTC"),
    ("naive_datetime", "entity['at'] = [datetime.now()]", "without a time zone"),
    ("number_type", "entity['price'] = entity['price'] / 2", "from an integer to a float"),
    ("number_type", "entity['price'] /= 2", "write // or int(...)"),
    ("number_type", "entity['rate'] = 1", "from a float to an integer"),
    ("misspelled", "entity['frist_name'] = 'Bob'", "100 of them have 'first_name'"),
    ("misspelled", "entity['first_nname'] = 'Bob'", "is 'first_nname' a misspelling?"),
]


@pytest.mark.parametrize(("kind", "statement", "says"), DOUBTS)
def test_a_doubtful_value_is_named_once_with_its_line(
    warned: Warn, tmp_path: Path, kind: str, statement: str, says: str
) -> None:
    ((is_kind, message),) = warned(ASSIGN.replace("{statement}", statement))
    assert is_kind == kind
    assert says in message
    line = here(tmp_path)
    head, *details = message.splitlines()
    assert f"(fix.py:{line})" in head
    assert head.endswith("misspelling?" if kind == "misspelled" else " (120 times)")
    assert details == [
        f"fix.py:{line}  {statement}  #HERE",
        f'if that is meant: ignore_warnings = ["{kind}"]',
    ]


MEANT = [
    "entity['at'] = datetime.now(timezone.utc)",
    "entity['at'] = datetime.utcfromtimestamp(0)",
    "entity['price'] = entity['price'] // 2",
    "entity['price'] = float(entity['price'])",
    "entity['price'] = 1.5",
    "entity['rate'] = int(entity['rate'])",
    "entity['rate'] = round(entity['rate'])",
    "entity = retype('price', 'float')(entity)",
    "entity['price'] = str(entity['price'])",
    "entity['rate'] = entity['rate'] / 2",
    "entity['half'] = entity['price'] / 2",
    "entity['country'] = 'UK'",  # there is a county
    "entity['first_nam'] = entity['first_name']",
    "entity['frist_name'] = entity.pop('first_name')",
    "entity['frist_name'] = entity['first_name'] = 'Bob'",
    "entity['altitude'] = 1",
]


@pytest.mark.parametrize("part", range(3))
def test_what_is_meant_is_not_warned_of(warned: Warn, part: int) -> None:
    """Each in a branch of its own, for entities of its own."""
    branches = "".join(
        f"""
    elif entity.key.id % {len(MEANT)} == {number}:
        {statement}"""
        for number, statement in enumerate(MEANT)
        if number % 3 == part
    )
    assert warned(ASSIGN.replace("{statement}  #HERE", "if False: pass" + branches)) == []


def test_a_property_that_some_entities_have_is_not_a_misspelling(
    warned: Warn, embedded: Server
) -> None:
    client = embedded.client()
    entity = client.get(client.key("Thing", 50))
    entity["frist_name"] = "Zoe"
    client.put(entity)
    assert warned(ASSIGN.replace("{statement}", "entity['frist_name'] = 'Bob'")) == []


CLASS = """
class Fix(bulkup.Updater):
    function = "an attribute of the user's own"
    {attribute}

    def get_query(self):
        return self.client.query(kind="Thing")

    def handle_entity(self, entity):
        {statement}  #HERE
"""


@pytest.mark.parametrize("kind", [kind.value for kind in OF_CODE])
def test_a_warning_can_be_ignored(warned: Warn, kind: str) -> None:
    source = CLASS.replace("{attribute}", f"ignore_warnings = [{kind!r}]").replace(
        "{statement}", "entity['at'] = datetime.now(); entity['price'] /= 2; self.put(entity)"
    )
    expected = {"naive_datetime", "number_type"} - {kind}
    assert {kind for kind, _ in warned(source)} == expected


def test_an_unknown_kind_of_warning_is_refused(warned: Warn) -> None:
    with pytest.raises(UsageError, match="'naive_datetimes', which is not a kind of warning; did"):
        warned(ASSIGN.replace('"Thing"', '"Thing", ignore_warnings=["naive_datetimes"]'))
    with pytest.raises(UsageError, match="is 'misspelled'; use a list of naive_datetime, "):
        warned(ASSIGN.replace('"Thing"', '"Thing", ignore_warnings="misspelled"'))


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "self.put(Entity(Key('Other', 1, project=self.client.project, namespace='b')))",
            "puts entities of the kind Other in the namespace 'b', and the run works in the "
            "default namespace",
        ),
        (
            "self.delete(Key('Other', 1, project=self.client.project, namespace='b'))",
            "deletes entities of the kind Other in the namespace 'b'",
        ),
    ],
)
def test_a_write_to_another_namespace_is_named(
    warned: Warn, tmp_path: Path, statement: str, says: str
) -> None:
    source = CLASS.replace("{attribute}", "pass").replace("{statement}", statement)
    ((kind, message),) = warned(source)
    assert kind == "other_namespace"
    assert says in message
    assert f"(fix.py:{here(tmp_path)}): make their keys with self.client.key" in message


READS = {
    "every": ("self.client.get(entity.key)", True),
    "query": ("list(self.client.query(kind='Other').fetch(limit=1))", True),
    "half": ("entity['price'] % 4 or self.client.get(entity.key)", False),
    "none": ("pass", False),
}


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_read_for_each_entity_is_named_with_the_form_for_many(
    warned: Warn, how: str, processes: int
) -> None:
    statement, is_named = READS[how]
    source = CLASS.replace("{attribute}", "pass").replace("{statement}", statement)
    found = warned(source, processes=processes)
    assert len(found) == is_named
    for kind, message in found:
        assert kind == "reads_each"
        first = re.search(r"\((\d+) requests for the first (\d+)\)", message)
        assert first is not None
        assert 100 <= int(first[1]) <= int(first[2]) <= 120
        assert "write handle_batch(self, entities) in place of handle_entity" in message
        assert "self.get(keys)" in message
        assert "(120 times)" in message


def test_a_function_that_reads_for_each_entity_is_told_of_batches(warned: Warn) -> None:
    statement = "bulkup.client().get(entity.key)"
    ((kind, message),) = warned(ASSIGN.replace("{statement}", statement))
    assert kind == "reads_each"
    assert "give @bulkup.updater batch=True" in message


def test_one_read_for_a_batch_is_not_a_read_for_each_entity(warned: Warn) -> None:
    assert not warned("""
        class Fix(bulkup.Updater):
            def get_query(self):
                return self.client.query(kind="Thing")

            def handle_batch(self, entities):
                self.client.get_multi([entity.key for entity in entities])
    """)


def test_what_is_at_hand_is_not_read_for_each_entity(warned: Warn) -> None:
    statement = "self.get([self.client.key('Other', 1)])"
    source = CLASS.replace("{attribute}", "pass").replace("{statement}", statement)
    assert not warned(source)


@pytest.mark.parametrize("options", [{"dry_run": True}, {"processes": 2}, {"gate": "clean"}])
def test_a_hint_is_given_once_however_the_run_works(
    warned: Warn, tmp_path: Path, options: Any
) -> None:
    ((kind, message),) = warned(
        ASSIGN.replace("{statement}", "entity['price'] /= 2; entity['x'] = 1"), **options
    )
    assert kind == "number_type"
    assert "(120 times)" in message
    assert f"(fix.py:{here(tmp_path)})" in message


STATEFUL = """
from collections import Counter

total = 0
names = []

class Fix(bulkup.Updater):
    seen = set()

    def __init__(self):
        self.count = 0
        self.kinds = Counter()
        self.price = 0
        self.table = None
        self.cache = {}

    def get_query(self):
        return self.client.query(kind="Thing")

    def handle_entity(self, entity):
        global total
        {statement}  #HERE
"""

KEPT = [
    ("self.count += 1", "self.count"),
    ("self.count = self.count + entity['price']", "self.count"),
    ("self.kinds[entity.key.kind] += 1", "self.kinds"),
    ("self.seen.add(entity.key)", "Fix.seen"),
    ("total += 1", "total"),
    ("names.append(entity.key)", "names"),
]
NOT_KEPT = [
    "self.price = entity['price']",
    "self.table = self.table or {'a': 1}",
    "self.cache[entity.key] = 1",
    "self.rows = [entity]; self.rows.append(1)",
    "count = 0; count += 1; self.log('a')",
]


def test_what_worker_processes_keep_is_named(warned: Warn, tmp_path: Path) -> None:
    every = "; ".join(statement for statement, _ in KEPT)
    found = warned(STATEFUL.replace("{statement}", every), processes=2)
    assert {kind for kind, _ in found} == {"process_state"}
    for _, name in KEPT:
        (message,) = {text for _, text in found if f"handlers change {name} (" in text}
        assert f"(fix.py:{here(tmp_path)}), and each worker process has its own" in message
    assert len(found) == 5


def test_what_is_not_a_state_is_not_named(warned: Warn) -> None:
    assert warned(STATEFUL.replace("{statement}", "; ".join(NOT_KEPT)), processes=2) == []


def test_one_process_may_keep_what_it_likes(warned: Warn) -> None:
    every = "; ".join(statement for statement, _ in KEPT)
    assert warned(STATEFUL.replace("{statement}", every), processes=1) == []


def test_a_plan_has_the_same_warnings(
    embedded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(embedded, "Thing", 20, price=2)
    path = tmp_path / "fix.py"
    path.write_text(IMPORTS + ASSIGN.replace("{statement}", "entity['price'] /= 2"))
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    found = plan_on(embedded, str(path)).warnings
    (warning,) = [warning for warning in found if warning.hazard is Hazard.NUMBER_TYPE]
    assert f"{path}:{here(tmp_path)}): to Datastore, 2 and 2.0" in warning.message


EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "backfill_full_name": ("Person", {"first": "Ada", "last": "Lovelace"}),
    "cities_geopoint": ("City", {"latitude": 52.5, "longitude": lambda i: i if i % 2 else 13.4}),
    "delete_stale_sessions": ("Session", {"last_seen": datetime(2020, 1, 1, tzinfo=timezone.utc)}),
    "price_to_cents": ("Product", {"price": "12.50"}),
    "split_address": ("Customer", {"address": lambda i: Entity()}),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_example_is_warned_of(embedded: Server, run: Run, name: str) -> None:
    kind, properties = EXAMPLES[name]
    fill(embedded, kind, 20, **properties)
    params = {"before": "2024-01-31"} if name == "delete_stale_sessions" else {}
    report = run(embedded, str(EXAMPLES_FOLDER / f"{name}.py"), params=params)
    assert (report.warnings, report.counts.handled, report.counts.left_alone) == ((), 20, 0)
