"""Users' tracebacks: their frames alone, bounded, printable by Python's own format."""

from __future__ import annotations

import importlib
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bulkup.authoring.loader import user_traceback
from bulkup.authoring.updater import Updater
from bulkup.core import user_traceback as traceback_module
from bulkup.core.user_traceback import error_line
from bulkup.testing import handle, offline_client


def caught(call: Any, *args: Any) -> BaseException:
    try:
        call(*args)
    except BaseException as exc:
        return exc
    raise AssertionError("did not raise")


def frames(text: str) -> list[str]:
    return [line.split(" in ")[-1] for line in text.splitlines() if line.startswith("  File")]


def fails(message: object = "no latitude") -> None:
    raise ValueError(message)


def test_it_reads_as_python_prints_it() -> None:
    text = user_traceback(caught(fails))
    lines = text.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: no latitude"
    assert "    raise ValueError(message)" in lines
    assert frames(text) == ["caught", "fails"]


def test_frames_of_bulkup_are_left_out_on_both_sides() -> None:
    class Fix(Updater):
        def handle_entity(self, entity: Any) -> None:
            self.put("no entity")

    text = user_traceback(caught(handle, Fix, offline_client().entity()))
    assert frames(text) == ["caught", "handle_entity"]
    assert text.endswith("TypeError: put takes entities, not a str")


def test_frames_of_the_import_machinery_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trace_import.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = user_traceback(caught(importlib.import_module, "trace_import"))
    assert frames(text) == ["caught", "<module>"]
    text = user_traceback(caught(runpy.run_path, str(tmp_path / "trace_import.py")))
    assert frames(text) == ["caught", "<module>"]


def test_keep_from_drops_what_comes_before_the_users_file(tmp_path: Path) -> None:
    file = str(tmp_path / "job.py")
    space: dict[str, Any] = {"fails": fails}
    exec(compile("def job():\n    fails()\n", file, "exec"), space)
    exc = caught(space["job"])
    assert frames(user_traceback(exc)) == ["caught", "job", "fails"]
    assert frames(user_traceback(exc, keep_from=file)) == ["job", "fails"]
    assert frames(user_traceback(exc, keep_from="/elsewhere.py")) == ["caught", "job", "fails"]


def test_causes_are_trimmed_like_the_error_itself() -> None:
    def outer() -> None:
        try:
            handle(fails, "entity", strange=1)
        except Exception as exc:
            raise KeyError("outer") from exc

    text = user_traceback(caught(outer))
    assert "direct cause" in text
    assert "bulkup/" not in text
    assert text.endswith("KeyError: 'outer'")


def test_deep_recursion_is_cut_in_the_middle() -> None:
    def ping(n: int) -> None:
        pong(n)

    def pong(n: int) -> None:
        if n == 0:
            fails()
        ping(n - 1)

    text = user_traceback(caught(ping, 200))
    assert len(frames(text)) == traceback_module.MAX_FRAMES
    assert "more frames]" in text
    assert frames(text)[0] == "caught"
    assert frames(text)[-1] == "fails"


def test_a_huge_message_is_cut() -> None:
    exc = caught(fails, "x" * 1_000_000)
    assert len(user_traceback(exc)) < 2 * traceback_module.MAX_PART_CHARS
    assert "characters ...]" in user_traceback(exc)
    assert len(error_line(exc)) == traceback_module.MAX_LINE_CHARS


def test_a_long_chain_of_causes_is_cut_and_its_last_error_stays() -> None:
    def chain() -> None:
        last: Exception | None = None
        for n in range(500):
            try:
                raise ValueError(f"error {n} " + "y" * 300) from last
            except ValueError as exc:
                last = exc
        assert last is not None
        raise last

    began = time.process_time()
    text = user_traceback(caught(chain))
    assert time.process_time() - began < 5
    assert len(text) < traceback_module.MAX_CHARS + 100
    assert "error 499" in text[-400:]


def test_strange_exceptions_do_no_harm() -> None:
    class NoTextError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def raises(exc: BaseException) -> None:
        raise exc

    exc = caught(raises, NoTextError())
    assert "<exception str() failed>" in user_traceback(exc)
    assert "NoTextError" in error_line(exc)
    half = caught(raises, ValueError("half \ud800"))
    assert user_traceback(half).encode()
    assert error_line(half) == "ValueError: half \\ud800"
    loop = ValueError("loop")
    loop.__cause__ = loop
    assert "ValueError: loop" in user_traceback(caught(raises, loop))
    assert error_line(KeyError()) == "KeyError"
    assert error_line(ValueError("two\nlines\t here")) == "ValueError: two lines here"


def test_a_syntax_error_has_its_line_and_no_empty_heading() -> None:
    exc = caught(compile, "x = (\n", "job.py", "exec")
    exc.__traceback__ = None
    text = user_traceback(exc)
    assert text.startswith('  File "job.py", line 1')
    assert "SyntaxError" in text


def test_notes_and_groups_are_kept() -> None:
    exc = caught(fails)
    exc.add_note("at City 5")
    assert user_traceback(exc).endswith("ValueError: no latitude\nat City 5")
    group = ExceptionGroup("several", [caught(handle, fails, 1), ValueError("b")])
    text = user_traceback(group)
    assert "ValueError: b" in text
    assert "bulkup/" not in text


def test_the_lines_shown_are_those_that_ran_even_after_an_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bulkup.authoring.loader import load

    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "job.py"
    text = "import bulkup\n@bulkup.updater(kind='A')\ndef job(entity):\n    return entity.missing\n"
    file.write_text(text)
    definition: Any = load(str(file)).definition
    file.write_text("# edited meanwhile\n" * 10)
    assert "return entity.missing" in user_traceback(caught(definition, 1))
