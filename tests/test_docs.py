"""The README covers what exists, and what it says works."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click

from bulkup.cli import cli
from bulkup.core.errors import Exit
from bulkup.state.kinds import OWN_KINDS
from docs.reference.pages import PAGES
from tests.draw_dry_run import PICTURE, draw, dry_run, shown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_command_is_in_the_readme() -> None:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        assert f"bulkup {name}" in README, name


def test_every_option_says_what_it_does() -> None:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.opts}"


def test_every_exit_code_of_a_run_is_in_the_readme() -> None:
    table = README.partition("| exit | meaning |")[2].partition("\n\n")[0]
    codes = {
        int(code)
        for code in re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+)", table, re.M)))
    }
    assert {int(code) for code in Exit} <= codes


def test_every_kind_that_is_left_is_in_the_readme() -> None:
    assert all(f"`{kind}`" in README for kind in OWN_KINDS)


def test_every_test_that_the_readme_names_is_there() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", README)
    assert len(named) > 20
    for name in named:
        assert f"def {name}(" in tests, name


def test_every_file_that_the_docs_link_to_is_there() -> None:
    pages = [
        page
        for where in ("", "docs/", "docs/*/", "benchmarks/", "tests/")
        for page in ROOT.glob(where + "*.md")
    ]
    made = {(ROOT / "docs" / place).resolve() for place in PAGES}
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            place = (page.parent / target).resolve()
            assert place.exists() or place in made, f"{page.name}: {target}"


def test_every_page_is_in_the_navigation_once() -> None:
    listed = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted([*pages, *PAGES]), "list the page in mkdocs.yml"


def test_addresses_in_the_repository_lead_to_files() -> None:
    """The site links to what is not part of it."""
    for page in (ROOT / "docs").rglob("*.md"):
        found = re.findall(
            r"github\.com/bulkup/bulkup/(?:blob|tree)/main/([^)#\s]+)", page.read_text()
        )
        for path in found:
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_python_of_the_docs_is_python() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
            ast.parse(block)


def test_the_picture_of_a_dry_run_shows_what_one_prints(tmp_path: Path) -> None:
    drawn = draw(shown(dry_run(tmp_path), tmp_path))
    assert _texts(drawn) == _texts(PICTURE.read_text()), "python -m tests.draw_dry_run draws it"


def _texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_first_updater_of_the_readme_works() -> None:
    from google.cloud.datastore import Entity

    (block, *_) = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    full_name = names["full_name"]
    assert callable(full_name)
    person = Entity()
    person.update(first="Ada", last="Lovelace")
    assert full_name(person)["full_name"] == "Ada Lovelace"
