"""Small exports in folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bulkup.local.exports.folder import Export, open_export
from bulkup.local.exports.writer import ExportWriter
from tests.local.differential.build import Place, Unindexed

HERE = Place("p")


def write(folder: Path, made: list[Any], **options: Any) -> Path:
    with ExportWriter(folder, **options) as writer:
        for one in made:
            writer.write(one)
    assert writer.entities == len(made)
    return folder


def few(number: int = 3, kind: str = "K") -> list[Any]:
    return [
        HERE.entity((kind, n), {"n": n, "s": Unindexed("x" * 20)}) for n in range(1, number + 1)
    ]


def read(folder: Path | Export) -> list[Any]:
    export = folder if isinstance(folder, Export) else open_export(folder)
    return [one.entity for one in export.entities()]
