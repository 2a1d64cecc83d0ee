"""The reference covers everything that a user can type, set, import or receive."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import get_args

import click
import pytest

import bulkup
import bulkup.testing
import bulkup.transforms
from bulkup.authoring.built_ins import BUILT_INS, built_in
from bulkup.authoring.parameters import parameters_of
from bulkup.cli import cli
from bulkup.cli.config_keys import OPTIONS, TABLES, TOP_LEVEL
from bulkup.core.errors import Exit
from bulkup.core.events import Event, WarningKind
from docs.reference import __main__ as pages_command
from docs.reference import api, commands, json_lines, measured, pages, settings, topics, transforms
from docs.reference.other_hosts import fetched
from docs.reference.pages import COMMAND, JSON_PAGE, PAGES, json_page
from docs.reference.text import Missing, attribute_texts, docstring

COMMANDS = commands.page()


def test_the_tables_of_the_json_page_are_current() -> None:
    assert json_page() == JSON_PAGE.read_text(), f"write them again with `{COMMAND}`"


@pytest.mark.parametrize("place", PAGES)
def test_everything_on_a_page_has_a_text(place: str) -> None:
    page = PAGES[place]()  # raises Missing, which says what has none
    assert page.startswith("# ")
    assert "object at 0x" not in page


def test_every_command_and_option_is_on_the_page() -> None:
    seen = 0
    for name, command in _every_command("bulkup", cli):
        section = COMMANDS.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section, f"{name} has no section"
        for option in command.params:
            if isinstance(option, click.Option):
                assert f"{max(option.opts, key=len)}" in section, f"{name} {option.opts}"
                seen += 1
    assert seen > 300


def _every_command(path: str, command: click.Command) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context, found = click.Context(command), [] if path == "bulkup" else [(path, command)]
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        found += _every_command(f"{path} {name}", inner)
    return found


def test_the_variables_on_the_page_set_their_options(monkeypatch: pytest.MonkeyPatch) -> None:
    for context in commands.commands():
        for option in context.command.params:
            if not isinstance(option, click.Option):
                continue
            for variable in commands.environment(context, option):
                assert f"`{variable}`" in COMMANDS or f"_{option.name}".upper() in variable
                with monkeypatch.context() as patch:
                    patch.setenv(variable, "x")
                    assert option.resolve_envvar_value(context) == "x", variable


def test_every_exit_code_is_on_the_page() -> None:
    listed = re.findall(r"^\| (\d+) \|", topics.exit_codes_page(), re.M)
    assert {int(code) for code in listed} == {int(code) for code in Exit}


def test_every_key_of_the_configuration_is_on_the_page() -> None:
    page = settings.page()
    for key in (*OPTIONS, *TOP_LEVEL, *(key for _, keys in TABLES.values() for key in keys)):
        assert f"| `{key}` |" in page, key


def test_every_event_is_on_the_page() -> None:
    page = api.events_page()
    for event in get_args(Event):
        section = page.partition(f"\n## {event.__name__}\n")[2].partition("\n## ")[0]
        assert all(f"| `{field}` |" in section for field in attribute_texts(event)), event
    assert all(f"| `{kind.value}` |" in page for kind in WarningKind)


def test_every_type_of_line_is_on_the_page() -> None:
    page = JSON_PAGE.read_text()
    for kind in json_lines.schema()["properties"]["type"]["enum"]:
        assert f"\n### `{kind}`\n" in page, kind


def test_everything_that_an_updater_can_set_or_override_is_on_the_page() -> None:
    page = api.updater_page()
    public = {*vars(bulkup.Updater), *bulkup.Updater.__annotations__} - {"client"}
    for name in (name for name in public if not name.startswith("_")):
        assert f"- `{name}`:" in page or f"\n### bulkup.Updater.{name}\n" in page, name
    section = page.partition("\n## bulkup.updater\n")[2].partition("\n## ")[0]
    for name in inspect.signature(bulkup.updater).parameters:
        assert f"`{name}" in section, f"the docstring of bulkup.updater lacks {name}"


def test_everything_that_can_be_imported_is_on_a_page() -> None:
    pages = api.updater_page() + api.programs_page() + transforms.page()
    for module in (bulkup, bulkup.testing, bulkup.transforms):
        for name in module.__all__:
            path = f"{module.__name__}.{name}"
            assert (
                f"\n## {path}\n" in pages
                or f"\n### {path}\n" in pages
                or (f"| `{path}` |" in pages)
            ), name


def test_every_built_in_updater_and_its_parameters_are_on_the_page() -> None:
    for name in BUILT_INS:
        section = transforms.page().partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        for parameter in parameters_of(built_in(name)):
            assert f"\n| `{parameter.name}` |" in section, f"{name} {parameter.name}"


def test_the_figures_of_other_ways_are_those_of_the_results() -> None:
    page = (JSON_PAGE.parent / "explanation/other-ways.md").read_text()
    assert measured.PLACE in page
    made = measured.with_measurements(page)
    figures = {
        f"{row['entities_per_s']:,}"
        for part in json.loads(measured.RESULTS.read_text())["parts"]
        if part["name"] == "peers"
        for row in part["rows"]
        if "entities_per_s" in row
    }
    shown = re.findall(r"^\| [^|]+ \| ([\d,]+) \| \d+ µs \|", made, re.M)
    assert len(shown) >= 3
    assert set(shown) <= figures


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://unpkg.com/mermaid"></script>',
        "<img class=x src=//example.com/a.png>",
        '<link href="https://fonts.example/css" rel="stylesheet">',
        "@font-face { src: url(https://fonts.example/x.woff2) }",
        "@import 'https://example.com/a.css'",
        '<div class="md-source" data-md-component="source">',
    ],
)
def test_what_a_page_would_fetch_from_another_host_is_found(text: str) -> None:
    assert fetched(f"<p>before</p>{text}<p>after</p>")


def test_no_drawing_fetches_anything() -> None:
    drawings = [*JSON_PAGE.parent.rglob("*.svg"), *JSON_PAGE.parent.rglob("*.css")]
    assert len(drawings) > 4
    assert not any(fetched(drawing.read_text()) for drawing in drawings)


def test_links_and_own_files_are_not_fetched_from_another_host() -> None:
    page = '<a href="https://cloud.google.com">x</a><img src="../a.svg"><link rel="canonical" href="https://x.y">'
    assert not fetched(page + '<svg xmlns="http://www.w3.org/2000/svg"/>')


def test_what_has_no_text_is_named() -> None:
    class Bare:
        pass

    with pytest.raises(Missing, match="Bare has no docstring"):
        docstring(Bare, "Bare")
    bare = click.Command("bare", params=[click.Option(["--silent"])], help="Say nothing.")
    context = click.Context(bare, info_name="bare")
    with pytest.raises(Missing, match="`bare --silent` has no help"):
        list(commands._command(context))


def test_a_stale_page_fails_the_check_and_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    current = JSON_PAGE.read_text()
    stale = tmp_path / "json.md"
    stale.write_text(current.replace("The updater called self.log.", "As it was."))
    for module in (pages, pages_command):
        monkeypatch.setattr(module, "JSON_PAGE", stale)
    assert pages_command.main(["--check"]) == 1
    assert COMMAND in capsys.readouterr().err
    assert pages_command.main([]) == 0
    assert stale.read_text() == current
    assert pages_command.main(["--check"]) == 0
