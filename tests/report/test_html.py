from __future__ import annotations

from html.parser import HTMLParser

import pytest

from bulkup.core.events import RunState
from bulkup.report.html import COLOURS, summary_html
from bulkup.report.summary_model import Tone, summarize
from tests.report.samples import RESUME, dangers, hostile_report, interrupted, with_failures

VOID = {"meta"}


class Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("state", list(RunState))
def test_hostile_strings_are_text_and_nothing_else(state: RunState) -> None:
    page = summary_html(summarize(hostile_report(state=state)))
    parsed = Page(page)
    assert parsed.open == []
    allowed = "html head meta title body div h1 h2 p pre code table tr th td ul li"
    assert parsed.tags <= set(allowed.split())
    assert parsed.attributes <= {"lang", "charset", "name", "content", "style", "role"}
    assert "<script>alert(1)</script>" in parsed.text
    assert "<script" not in page
    assert not dangers(page)


def test_nothing_is_fetched_and_nothing_runs() -> None:
    page = summary_html(summarize(with_failures(105, 20))).lower()
    for word in ("http:", "https:", "src=", "href=", "url(", "@import", "onload", "<link"):
        assert word not in page


def test_the_page_says_what_the_text_says() -> None:
    text = Page(summary_html(summarize(interrupted()))).text
    assert "Interrupted; nothing is lost." in text
    assert text.count(RESUME) == 1
    assert "1,200 of 34,006 (3%)" in text
    failed = Page(summary_html(summarize(with_failures(105, 2)))).text
    assert "Key('City', 1)" in failed
    assert 'raise ValueError("no latitude")' in failed
    assert "103 more failures: bulkup show" in failed


def test_the_headline_can_be_read_on_its_colour() -> None:
    assert set(COLOURS) == set(Tone)
    for colour in COLOURS.values():
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 4.5
