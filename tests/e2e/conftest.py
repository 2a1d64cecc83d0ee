from __future__ import annotations

from tests.cli.conftest import lf_shell, shell

__all__ = ["lf_shell", "shell"]
