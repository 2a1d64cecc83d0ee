"""What docs/testing.md says works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bulkup.testing
from tests.testing.test_plugin import ROOT, session

pytestmark = pytest.mark.sampled(5)

PAGE = (ROOT / "docs/testing.md").read_text()


def test_the_examples_pass(tmp_path: Path) -> None:
    (updater,) = re.findall(r"<!-- full_name.py -->\n```python\n(.*?)```", PAGE, re.S)
    tests = re.findall(r"<!-- test -->\n```python\n(.*?)```", PAGE, re.S)
    assert len(tests) == PAGE.count("```python") - 1
    (tmp_path / "full_name.py").write_text(updater)
    for number, test in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(test)
    out = session(tmp_path)
    assert f"{sum(test.count('def test_') for test in tests)} passed in" in out, out


def test_every_public_name_is_on_the_page() -> None:
    results = {"CrashResult", "Diff", "FailedEntity", "RunResult", "Writes"}
    for name in {*bulkup.testing.__all__} - results:
        if name not in ("query", "offline_client"):
            assert f"`{name}`" in PAGE or f"{name}(" in PAGE, name
    for name in ("written", "deleted", "diffs", "logged", "failed", "entities", "report"):
        assert f"`{name}`" in PAGE
        assert name in bulkup.testing.RunResult.__annotations__ or hasattr(
            bulkup.testing.RunResult, name
        )
