"""All cities of the world, exported, rehearsed, and then run: every number was right."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import Shell
from tests.e2e.test_cities import ALL, cities
from tests.rehearsal.data import export_of

UPDATER = """
    import bulkup

    @bulkup.updater(kind="City", max_failures=5)
    def enrich(entity):
        '''Count in thousands, and delete the smallest.'''
        if not entity["name"]:
            raise ValueError("a city without a name")
        if entity["population"] < 15_100:
            return bulkup.delete(entity.key)
        entity["thousands"] = entity["population"] // 1000
        del entity["alternate"]
        return entity
"""


def lines(count: int) -> list[dict[str, Any]]:
    found = []
    for number, city in cities(count).items():
        found.append(
            {
                "__key__": ["City", number],
                "name": "" if number in bad_of(count) else city["name"],
                "population": city["population"],
                "timezone": city["timezone"],
                "alternate": len(city["alternatenames"]),
            }
        )
    return found


def bad_of(count: int) -> tuple[int, ...]:
    """Three that are there, and that are not the first ones."""
    numbers = list(cities(count))
    return numbers[count // 5], numbers[count // 2], numbers[-1]


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(2_400, id="2400"),
        pytest.param(ALL, id="all", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_a_rehearsal_of_an_export_predicts_exactly_what_a_run_does(
    tmp_path: Path, count: int
) -> None:
    shell = Shell(tmp_path)
    (tmp_path / ".git").mkdir()
    shell.write("enrich.py", UPDATER)
    given = lines(count)
    export_of(tmp_path / "night", given, "shop")
    place = ("--project", "shop")
    rehearsed = shell.bulkup(
        "rehearse", "enrich.py", "--from-export", "night", *place, "--json",
        "--markdown", "comment.md", timeout_s=900,
    )  # fmt: skip
    assert rehearsed.code == 3, rehearsed
    found = json.loads(rehearsed.out)
    (work,) = found["works"]

    for name in ("base.db", "copy.db"):
        assert shell.bulkup("local", "load", name, "--from-export", "night", *place).code == 0
    ran = shell.bulkup("run", "enrich.py", "--local", "copy.db", *place, "--json", timeout_s=900)
    assert ran.code == 3, ran
    summary = ran.summary
    assert work["runs"][0]["counts"] == summary["counts"]
    assert work["runs"][0]["failure_groups"] == summary["failure_groups"]
    (group,) = summary["failure_groups"]
    assert group["count"] == 3
    assert [key["path"][0][1] for key in group["typed_keys"]] == list(bad_of(count))

    # What differs is what another way of comparing finds.
    compared = shell.bulkup(
        "diff", "--local", "base.db", *place, "--with", "local=copy.db", "--with", "project=shop",
        "--sample", "0", "--json", timeout_s=900,
    )  # fmt: skip
    assert compared.code == 4, compared
    diff = compared.of_type("diff")[0]
    effect = work["effect"]
    assert (effect["changed"], effect["created"], effect["deleted"]) == (
        diff["changed"], diff["only_b"], diff["only_a"],
    )  # fmt: skip
    by_property = {one["name"]: one["count"] for one in diff["kinds"][0]["by_property"]}
    assert {one["name"]: one["changed"] for one in effect["by_property"]} == by_property
    # And the values are those that the updater gives.
    left = [one for one in given if one["population"] >= 15_100 and one["name"]]
    thousands = Counter(one["population"] // 1000 for one in left)
    (after,) = (one["after"] for one in effect["by_property"] if one["name"] == "thousands")
    assert after["least"] == str(min(thousands))
    assert after["greatest"] == str(max(thousands))
    if after["distinct"] is not None:
        assert after["distinct"] == len(thousands)
        value, often = thousands.most_common(1)[0]
        assert after["common"][0] == {"value": str(value), "count": often}

    # The bill is that of the run: what the handlers ask for, and a few operations of bulkup's own
    # for each batch, whose size follows the time that commits take.
    counts, counted = summary["counts"], summary["operations"]["counted"]
    asked = {"reads": counts["handled"], "writes": counts["puts"], "deletes": counts["deletes"]}
    billed = {line["operation"]: line["count"]["count"] for line in work["bill"]["lines"]}
    for name, wanted in asked.items():
        most = wanted + counts["handled"] // 10 + 30
        assert wanted <= billed[name] <= most, name
        assert wanted <= counted[name] <= most, name

    assert work["idempotent"] is False  # `alternate` is gone, so a second run fails everywhere
    assert work["crash"]["same"] is True
    assert len(work["crash"]["kills"]) == 5
    comment = (tmp_path / "comment.md").read_text()
    assert f"3 of {count:,} entities fail, within the failure budget" in comment
