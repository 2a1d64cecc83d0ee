"""`bulkup run --on beam`: what is refused before anything is opened. tests/beam/ has the rest."""

from __future__ import annotations

import pytest

from bulkup.cli import call, on_beam
from tests.cli.shell import Shell


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--local", "x.db"], "--local: other machines do not reach a file"),
        (["--dry-run"], "--dry-run: a dry run works on this machine"),
        (["--all-namespaces"], "--all-namespaces: run each namespace"),
        (["--namespaces", "a*"], "--namespaces: run each namespace"),
        (["--keys-from", "keys.txt"], "--keys-from: only a query can be cut"),
        (["--until-clean"], "--until-clean"),
        (["--limit", "5"], "--limit"),
        (["--max-time", "5m"], "--max-time"),
        (["--processes", "2"], "--processes"),
        (["--health-url", "https://a.example/up"], "--health-url"),
        (["--health-cmd", "true"], "--health-cmd"),
        (["--no-record"], "--no-record"),
        (["--trace", "t.json"], "--trace"),
        (["--", "bump.py"], "after `--` come Beam's options"),
        (["--on", "spark"], "'spark' is not 'beam'"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_go_on_beam_is_refused_in_a_sentence(
    nowhere: Shell, words: list[str], says: str
) -> None:
    result = nowhere.bulkup("run", "bump.py", "--on", "beam", *words)
    assert result.code == 2
    assert says in " ".join(result.err.split())
    assert "Traceback" not in result.err
    assert nowhere.runs() == []


def test_options_of_beam_without_beam_are_refused(nowhere: Shell) -> None:
    result = nowhere.bulkup("run", "bump.py", "--", "--runner=DataflowRunner")
    assert result.code == 2
    assert "need --on beam" in result.err
    assert nowhere.bulkup("run", "bump.py", "other.py").code == 2


def test_without_the_extra_a_sentence_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_beam, "find_spec", lambda name: None)
    assert call(["run", "bump.py", "--on", "beam"]) == 2
    assert "pip install 'bulkup[beam]'" in " ".join(capsys.readouterr().err.split())
