"""Apache Beam is an extra: without it the tests beside this one are skipped, and say so."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest


def test_beam_is_installed_where_its_tests_are_required() -> None:
    """`.ci/run` sets the variable, so that it cannot be green by skipping them."""
    if not os.environ.get("BULKUP_REQUIRE_BEAM"):
        pytest.skip("BULKUP_REQUIRE_BEAM is not set")
    assert find_spec("apache_beam"), "pip install -e '.[test,beam]'"
    assert find_spec("distributed"), "pip install 'apache-beam[dask]'"
