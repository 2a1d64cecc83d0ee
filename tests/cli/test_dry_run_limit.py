"""A dry run that stops at a limit has done what was asked, and leaves nothing to resume."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import Shell, seed, values
from tests.conftest import Server

UPDATER = """
from bulkup import Updater

class Longer(Updater):
    max_failures = -1

    def get_query(self):
        return self.client.query(kind="Item")

    def handle_entity(self, entity):
        entity["n"] += 1
        if entity.key.id == BAD:
            entity["bio"] = "x" * 1501
        self.put(entity)
"""


@pytest.mark.parametrize(("bad", "code", "real_code"), [(0, 0, 75), (1, 3, 75)])
def test_a_dry_run_with_a_limit_exits_as_one_that_is_done(
    tmp_path: Path, embedded: Server, bad: int, code: int, real_code: int
) -> None:
    shell = Shell(tmp_path, embedded)
    seed(embedded, 4)
    (tmp_path / "longer.py").write_text(UPDATER.replace("BAD", str(bad)))
    dry = shell.bulkup("run", "longer.py", "-n", "--limit", "2", "--json")
    assert dry.code == code, dry
    assert dry.summary["counts"]["handled"] == 2
    assert dry.summary["exit_code"] == code
    assert values(embedded.client()) == dict.fromkeys(range(1, 5), 0)
    real = shell.bulkup("run", "longer.py", "--limit", "2", "--json")
    assert real.code == real_code, real
    assert real.summary["failures"] == dry.summary["failures"]
