"""Every block of code in the README and the docs works, or says why no test runs it.

Shell blocks, and the files of pages that stand for themselves: tests/test_shell_blocks.py.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner

import bulkup
from bulkup.authoring.definitions import is_updater, why_not_runnable
from bulkup.cli.config_file import find_config
from bulkup.cli.config_keys import read_settings
from tests.cli.json_contract import strict_validator
from tests.cli.shell import entity, put
from tests.conftest import Server
from tests.doc_blocks import PAGES, Block, blocks, blocks_of
from tests.test_shell_blocks import ALONE

LANGUAGES = {"bash", "python", "toml", "yaml", "json"}
"""What a test runs. `text` is what the commands above it print, on pages that stand for
themselves."""

NOT_RUN = {
    "README.md": 2,
    "docs/apply.md": 1,
    "docs/architecture.md": 1,
    "docs/batches.md": 1,
    "docs/ci.md": 3,
    "docs/gate.md": 1,
    "docs/beam.md": 3,
    "docs/messages.md": 1,
    "docs/tutorial/first-migration.md": 1,
    "docs/local.md": 2,
    "docs/rehearse.md": 1,
    "docs/selecting.md": 2,
    "docs/scale.md": 1,
    "docs/serve.md": 2,
    "docs/watch.md": 2,
    "docs/ndb.md": 1,
    "docs/typed-entities.md": 1,
    "docs/undo.md": 1,
}
"""How many blocks of each page no test runs. Each has a comment before it that says why."""

PYTEST = "docs/testing.md"
"""Its blocks are tests; tests/testing/test_docs.py runs them."""
ELSEWHERE = {page.relative_to(page.parents[1]) for page in ALONE}


def is_alone(block: Block) -> bool:
    return any(block.page.endswith(str(page)) for page in ELSEWHERE)


def test_every_block_is_run_or_says_why_not() -> None:
    not_run = Counter(b.page for page in PAGES for b in blocks_of(page) if b.not_run)
    assert dict(not_run) == NOT_RUN
    for block in (block for page in PAGES for block in blocks_of(page) if not block.not_run):
        is_output = block.language == "text" and is_alone(block)
        assert block.language in LANGUAGES or is_output, (
            f"{block}: no test runs {block.language or 'a block without a language'}; write "
            "<!-- not run: WHY --> before it, and count it here"
        )


@pytest.mark.parametrize("page", ALONE, ids=lambda page: page.name)
def test_every_file_that_a_page_shows_is_used_by_its_commands(page: Path) -> None:
    commands = "".join(b.text for b in blocks_of(page) if b.language == "bash")
    files = [block for block in blocks_of(page) if block.language in ("python", "toml", "yaml")]
    for block in (block for block in files if not block.not_run):
        assert block.file_name, f"{block}: its first line must name its file"
        names = {block.file_name, str(Path(block.file_name).parent) + "/"}
        named_by_code = any(f'"{block.file_name}"' in other.text for other in files)
        assert any(name in commands for name in names) or named_by_code, block


@pytest.mark.parametrize(
    "block",
    [block for block in blocks("python") if not is_alone(block) and block.page != PYTEST],
    ids=str,
)
def test_every_python_block_works(
    block: Block, embedded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Updaters handle a few entities; anything else is executed."""
    _seed(embedded)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    file = tmp_path / "block.py"
    file.write_text(block.text)
    for name in _updaters(_imported(file, monkeypatch)):
        report = bulkup.run(
            f"{file}:{name}", project=embedded.project, state_dir=tmp_path / "state"
        )
        assert (report.exit_code, report.counts.failed) == (0, 0), (block, report)
        assert report.counts.writes > 0, block


def _seed(server: Server) -> None:
    client = server.client()
    put(
        client,
        [
            entity(client, "Person", 1, first="Ada", last="Lovelace", fullname="Ada L", age="36"),
            entity(client, "Animal", 1, legs=6),
            entity(client, "Product", 1, price=2.5),
            entity(client, "Order", 1, customer=client.key("Customer", 1), zip="8001"),
            entity(client, "Customer", 1, region="Zurich"),
            entity(client, "Switch", "names-frozen"),
        ],
    )


def _imported(file: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def _updaters(module: ModuleType) -> list[str]:
    """Those that can run; a class that shows one attribute cannot."""
    return [
        name
        for name, value in vars(module).items()
        if is_updater(value)
        and value.__module__ == module.__name__
        and why_not_runnable(value) is None
    ]


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_every_toml_block_is_a_configuration(block: Block, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(block.text)
    found = find_config(str(tmp_path), {})
    assert found is not None, block
    settings = read_settings(found, str(tmp_path))
    assert settings.values or settings.targets or settings.prices


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_every_yaml_block_is_valid_for_the_service_that_reads_it(
    block: Block, tmp_path: Path
) -> None:
    schema = "vendor.github-workflows" if "\njobs:" in block.text else "vendor.cloudbuild"
    file = tmp_path / "block.yaml"
    file.write_text(block.text)
    result = CliRunner().invoke(check_jsonschema, ["--builtin-schema", schema, str(file)])
    assert result.exit_code == 0, (block, result.output)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_every_json_block_has_lines_of_the_schema(block: Block) -> None:
    for line in block.text.splitlines():
        strict_validator().validate(json.loads(line))


def test_a_block_that_does_not_work_is_found(tmp_path: Path) -> None:
    steps = "[{uses: a, run: b, wrong: c}]"
    workflow = f"on: push\njobs:\n  x:\n    runs-on: here\n    steps: {steps}\n"
    block = Block("x.md", 1, "yaml", workflow, "")
    with pytest.raises(AssertionError, match=r"wrong"):
        test_every_yaml_block_is_valid_for_the_service_that_reads_it(block, tmp_path)
