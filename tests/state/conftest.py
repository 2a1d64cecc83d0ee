from __future__ import annotations

from tests.engine.conftest import run

__all__ = ["run"]
