"""Every package, file and function that the documentation names exists."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/architecture.md").read_text()
PAGES = [
    page for where in ("", "docs/", "benchmarks/", "tests/") for page in ROOT.glob(where + "*.md")
]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = [set(layer.split(" | ")) for layer in CONTRACTS["contracts"][0]["layers"]]


def part(name: str) -> str:
    """What stands between two comments of the page."""
    return PAGE.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]


def test_the_documented_layers_are_those_that_the_linter_enforces() -> None:
    drawn = dict(re.findall(r"^(\d)  (.+)$", part("layers"), re.M))
    layers = [set(drawn[number].split(" | ")) for number in sorted(drawn, reverse=True)]
    assert layers == LAYERS


def test_every_package_is_described_and_exists() -> None:
    names = re.findall(r"^\| `(\w+)` \|", part("packages"), re.M)
    assert len(names) == len(set(names))
    assert set(names) == set.union(*LAYERS)
    for name in names:
        package, module = ROOT / "bulkup" / name / "__init__.py", ROOT / "bulkup" / f"{name}.py"
        assert package.exists() or module.exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    for name in re.findall(r"`((?:\w+/)+(?:\w+\.(?:py|md))?)`", page.read_text()):
        roots = (ROOT, ROOT / "bulkup", page.parent)
        assert any((root / name).exists() for root in roots), f"{page.name} names {name}"


def test_every_function_on_an_entitys_way_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py)`\s·\s+`([\w.]+)`", PAGE)
    assert len(named) > 30
    for path, name in named:
        assert name in names_in(ROOT / "bulkup" / path), f"{path} has no {name}"


def names_in(path: Path) -> set[str]:
    """The functions, classes and methods that a file defines."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{method.name}"
                for method in node.body
                if isinstance(method, ast.FunctionDef)
            }
    return names
