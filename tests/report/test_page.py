"""The page of a run: everything is there, nothing in it runs, and everybody can read it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from itertools import pairwise
from math import inf

import pytest
from markdown_it import MarkdownIt

from bulkup.core.errors import Exit
from bulkup.core.events import Counts, FailureGroup, Report, RunState, SpaceResult
from bulkup.core.run_facts import ChainLink, Incident, RunFacts
from bulkup.core.vitals import Phase
from bulkup.report.page import (
    is_report_page,
    render_comparison,
    render_fragment,
    render_page,
    render_sections,
    stylesheet,
)
from bulkup.report.page.comparison import compare
from bulkup.report.page.data import embedded
from bulkup.report.page.markdown import comparison_markdown, is_report_markdown, page_markdown
from bulkup.report.page.model import run_page, took_s
from bulkup.report.page.text import comparison_lines, page_lines
from tests.report.samples import (
    ENDED,
    HOSTILE,
    RESUME,
    RUN_ID,
    TRACEBACK,
    dangers,
    hostile_report,
    interrupted,
    report,
    with_failures,
)
from tests.report.timelines import BEGAN, facts, hostile_facts, timeline, with_breaks

VOID = {"meta", "rect", "path"}


class Page(HTMLParser):
    """The elements of a page, in their order, with their text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data
        if not {"style", "script"} & set(self.open):
            self.text += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def data(self) -> dict[str, object]:
        (script,) = self.texts["script"]
        found: dict[str, object] = json.loads(script)
        return found


def failed_facts(**changes: object) -> RunFacts:
    groups = (
        FailureGroup(
            "handle", "ValueError: no latitude", "add.py:8 in handle_entity", 1200,
            tuple(f"Key('City', {number})" for number in range(5)), TRACEBACK,
        ),
        FailureGroup("write", "INVALID_ARGUMENT: too large", "", 1, ("Key('City', 99)",), ""),
    )  # fmt: skip
    ended = with_failures(1201, 5, failure_groups=groups, runners=2, retries=12)
    return facts(report=ended, **changes)


EVERY = {
    "finished": facts(),
    "failed": failed_facts(samples=with_breaks()),
    "hostile": hostile_facts(),
    "old": RunFacts(interrupted(total=None), ENDED),
    "long": facts(samples=timeline(2000)),
}


@pytest.mark.parametrize("name", EVERY)
def test_nothing_is_fetched_and_nothing_runs(name: str) -> None:
    page = render_page(EVERY[name])
    parsed = Page(page)
    for tag, attributes in parsed.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "form", "base", "use"}
        for attribute, value in attributes.items():
            assert not attribute.startswith("on")
            assert attribute not in {"src", "style", "srcset", "xlink:href"}
            assert attribute != "href" or value == "#main"
    assert [one.get("type") for one in parsed.of("script")] == ["application/json"]
    (policy,) = (one for one in parsed.of("meta") if "http-equiv" in one)
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert not re.search(r"url\(|@import|http", stylesheet())


@pytest.mark.parametrize("name", EVERY)
def test_no_string_of_others_is_obeyed(name: str) -> None:
    page = render_page(EVERY[name])
    parsed = Page(page)
    assert not dangers(page)
    assert page.count("<script") == page.count("</script>") == 1
    if name == "hostile":
        assert "<script>alert(1)</script>" in parsed.text
        assert len(page) < 500_000  # of strings of 100,000 characters, a lot is left out
        assert "100,116 characters" in parsed.text


def test_data_in_the_page_is_what_it_was_and_ends_no_element() -> None:
    (script,) = Page(render_page(hostile_facts())).texts["script"]
    assert not set("<>&\u2028\u2029") & set(script)
    data = json.loads(script)
    assert data["updater"] == HOSTILE
    assert data["changes"][0]["key"] == HOSTILE
    data = Page(render_page(facts())).data()
    assert data["timeline"]["at"][:2] == [BEGAN, BEGAN + 1]  # type: ignore[index]
    assert data["runners_known"][0]["who"] == "ada@worker-1"  # type: ignore[index]


@pytest.mark.parametrize("name", EVERY)
def test_a_reader_without_eyes_can_use_it(name: str) -> None:
    parsed = Page(render_page(EVERY[name]))
    tags = [tag for tag, _ in parsed.elements]
    assert parsed.of("html") == [{"lang": "en"}]
    assert tags.count("h1") == tags.count("main") == tags.count("header") == 1
    assert tags.index("header") < tags.index("main") < tags.index("footer")
    headings = [int(tag[1]) for tag in tags if tag in {"h1", "h2", "h3"}]
    for before, after in pairwise(headings):
        assert after <= before + 1  # no level is left out
    ids = [one["id"] for _, one in parsed.elements if "id" in one]
    assert len(ids) == len(set(ids))
    for tag, attributes in parsed.elements:
        for reference in attributes.get("aria-labelledby", "").split():
            assert reference in ids
        if tag == "svg":
            is_drawing = attributes.get("role") == "img" and "aria-labelledby" in attributes
            assert is_drawing or attributes.get("aria-hidden") == "true"
        if tag == "th":
            assert attributes["scope"] in {"col", "row"}
    assert tags.count("caption") == tags.count("table")
    assert all(text.strip() for text in (*parsed.texts.get("th", ()), *parsed.texts["h2"]))


def test_it_says_what_happened() -> None:
    parsed = Page(render_page(failed_facts(samples=with_breaks())))
    for text in (
        "AddFullName", "Finished, but 1,201 entities failed", "1,200 entities",
        "Key('City', 4) and 1,195 more", 'raise ValueError("no latitude")', "ada@worker-1",
        "12 calls sent again", "Held 8.0 s: the replica lags by 40 s", "Waiting for commits",
        "+ full_name: 'Ada Lovelace'", "- old: True", "Key('Person', 6)", "namespace eu",
        "https://ci/7, abcdef012345", f"bulkup show {RUN_ID} --changes",
    ):  # fmt: skip
        assert text in parsed.text, text
    assert len(parsed.of("figure")) == 3


def test_a_run_that_is_not_over_says_how_to_go_on() -> None:
    text = Page(render_page(RunFacts(interrupted(), ENDED))).text
    assert text.count(RESUME) == 1
    assert "Interrupted" in text
    assert "No timeline was kept" in text


def test_a_run_at_work_and_one_that_was_killed_are_told_apart() -> None:
    working = report(state=RunState.RUNNING, alive=True)
    text = Page(render_page(facts(report=working))).text
    assert "The run was at work when this page was made" in text
    (*samples, last) = timeline(5)
    paused = facts(report=working, samples=(*samples, replace(last, phase=Phase.PAUSED)))
    assert "Paused" in Page(render_page(paused)).text
    killed = report(state=RunState.RUNNING, alive=False)
    assert "Killed" in Page(render_page(facts(report=killed))).text


def test_a_killed_process_has_worked_until_its_last_sample() -> None:
    runner = replace(facts().runners[0], ended=None)
    killed = report(state=RunState.RUNNING, alive=False)
    later = ENDED + timedelta(days=3)
    assert took_s(facts(report=killed, read_at=later, runners=(runner,))) == 72
    second = replace(runner, number=2, began=BEGAN + 9000, ended=BEGAN + 9010)
    assert took_s(facts(runners=(runner, second))) == 72 + report().elapsed_s
    working = report(state=RunState.RUNNING, alive=True)
    at_work = facts(report=working, read_at=ENDED, runners=(runner,))
    assert took_s(at_work) == pytest.approx(72.3)


def test_chain_namespaces_and_steering_are_tables() -> None:
    spaces = (
        SpaceResult("eu", "r@eu", RunState.FINISHED, Counts(handled=5, puts=5)),
        SpaceResult("", "r@", RunState.FAILED, Counts(failed=1), Exit.FAILED, "no disk"),
    )
    page = render_page(
        facts(
            report=report(spaces=spaces),
            chain=(
                ChainLink(RUN_ID, "AddFullName", "finished", Counts(handled=7), is_this=True),
                ChainLink(f"{RUN_ID}+1", "Second", "running", Counts(handled=3)),
                ChainLink(f"{RUN_ID}+2"),
            ),
            incidents=(Incident(BEGAN, "max-rate 200/s", "ann@host"),),
        )
    )
    text = Page(page).text
    for word in ("(default)", "no disk", f"{RUN_ID} (this run)", "Second",
                 "not in this state directory", "max-rate 200/s", "ann@host"):  # fmt: skip
        assert word in text


def test_the_parts_of_a_page_that_change_can_be_made_alone() -> None:
    sections = render_sections(failed_facts(samples=with_breaks()))
    fragment = render_fragment(failed_facts(samples=with_breaks()))
    for name, section in sections.items():
        assert f'<div id="section-{name}">' in fragment
        assert section in fragment
        Page(section)
    assert sections["chain"] == ""
    assert "<figure" in sections["over_time"]


def test_the_data_in_a_page_has_no_long_string_and_no_infinity() -> None:
    long, short = "x" * 4_001, "y" * 4_000
    cut = f"{'x' * 4_000}… (4,001 characters)"
    found = embedded({"a": (long, short, [1, True, None, inf]), long: {"b": -inf, "c": 0.5}})
    assert json.loads(found) == {
        "a": [cut, short, [1, True, None, None]],
        cut: {"b": None, "c": 0.5},
    }


def test_a_page_is_known_for_one_of_ours() -> None:
    for page in (render_page(facts()), render_comparison(facts(), facts())):
        assert is_report_page(page.encode()[:4096])
    assert not is_report_page(b"<!DOCTYPE html><html><head><title>mine</title>")


THEMES = re.findall(r":root\{(.*?)\}", stylesheet(), re.S)


def test_every_text_can_be_read_on_its_ground_in_light_and_dark() -> None:
    assert len(THEMES) == 2
    for theme in THEMES:
        colours = dict(re.findall(r"--([\w-]+):(#[0-9a-f]{3,6})", theme))
        pairs = [(name, "bg") for name in ("text", "dim", "bad", "busy")]
        pairs += [("text", "panel"), ("dim", "panel"), ("del-text", "del"), ("ins-text", "ins")]
        pairs += [("on", name) for name in ("good", "mixed", "bad", "busy")]
        for text, ground in pairs:
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        drawn = ("a", "b", "limit", "reading", "handling", "committing", "paced", "waiting")
        for line in drawn:
            assert contrast(colours[line], colours["bg"]) >= 3, line


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
                        for c in channels)  # fmt: skip
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# --- two runs ---


def test_two_runs_stand_side_by_side() -> None:
    page = render_comparison(facts(), failed_facts(samples=with_breaks()))
    parsed = Page(page)
    for text in ("+1,201", "-4%", "Finished with failures", "ValueError: no latitude", "the same"):
        assert text in parsed.text, text
    assert len(parsed.of("figure")) == 6
    ids = [one["id"] for _, one in parsed.elements if "id" in one]
    assert len(ids) == len(set(ids))
    data = parsed.data()
    assert len(data["runs"]) == 2  # type: ignore[arg-type]


def test_two_hostile_runs_are_harmless_in_every_form() -> None:
    first, second = hostile_facts(), hostile_facts()
    page = render_comparison(first, second)
    assert page.count("<script") == 1
    assert not dangers(page)
    for text in (
        "\n".join(comparison_lines(compare(first, second))),
        comparison_markdown(compare(first, second)),
        "\n".join(page_lines(run_page(first))),
        page_markdown(run_page(first)),
    ):
        assert not dangers(text)


# --- Markdown and lines ---


def test_markdown_shows_hostile_strings_as_they_are() -> None:
    markdown = page_markdown(run_page(facts(
        report=hostile_report(updater="[x](http://evil) <img src=x> @all | `a` ![y](z)"),
        changes=hostile_facts().changes,
    )))  # fmt: skip
    assert is_report_markdown(markdown.encode())
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)
    inline = [child for token in tokens for child in token.children or ()]
    assert not {token.type for token in inline} & {"link_open", "image"}
    html = [t.content for t in (*tokens, *inline) if t.type.startswith("html")]
    for part in html:
        assert re.fullmatch(r"(<!-- bulkup report -->|</?details>|</?summary>|<br>|[^<])*", part)


def test_a_value_with_backticks_does_not_end_its_block() -> None:
    change = facts().changes[0].changes[0]
    value = "```\n# mine\n````"
    changed = facts(
        changes=(type(facts().changes[0])("K", "put", (type(change)("p", None, value),)),)
    )
    markdown = page_markdown(run_page(changed))
    (block,) = (t for t in MarkdownIt().parse(markdown) if t.type == "fence")
    assert "````" in block.content


def test_the_lines_have_what_the_summary_has_not() -> None:
    text = "\n".join(page_lines(run_page(failed_facts(samples=with_breaks()))))
    for word in ("Throughput. In 1 min 18 s of work", "Waiting for commits", "39%", "ada@worker-1"):
        assert word in text
    assert max(map(len, text.splitlines())) < 200


def test_old_runs_have_lines_too() -> None:
    assert list(page_lines(run_page(RunFacts(report(), ENDED)))) == []


def test_reports_of_every_state_have_a_page() -> None:
    for state in RunState:
        ended: Report = hostile_report(state=state)
        Page(render_page(RunFacts(ended, ENDED)))
