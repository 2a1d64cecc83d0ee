"""The tests on every Python that bulkup claims, and the checks: `nox -l` lists the sessions.

    nox -s tests-3.12                          # on one Python
    nox -s tests-3.13 -- tests/compatibility   # what follows -- goes to pytest
    nox -s lint

`.ci/run` is what must pass before a change lands; it needs one Python only.
"""

from __future__ import annotations

import nox

PYTHONS = ["3.11", "3.12", "3.13"]

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests; Google's emulators are used where gcloud and java are there."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def lint(session: nox.Session) -> None:
    """Run the checks of .ci/run that are not tests."""
    session.install("-e", ".[test,dev,docs]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-cache")
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    session.run("mkdocs", "build", "--strict", "--site-dir", session.create_tmp(), env=quiet)
