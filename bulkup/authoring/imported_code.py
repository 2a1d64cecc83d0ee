"""The code that an updater imports from its own project: the files it is in, and their checksum.

Import statements are followed wherever they stand in a file, even inside functions, without running
anything. A project consists of the folder of the updater's file, the folder above its outermost
package, and the folder from which its dotted name was found. Installed packages and bulkup itself
are left out: they differ from machine to machine and have versions of their own. An import by a
computed name is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import decode_source
from pathlib import Path
from typing import NamedTuple

from bulkup.authoring.code_checksum import code_checksum

_BULKUP = Path(__file__).resolve().parents[1]


class _Import(NamedTuple):
    level: int
    """The number of dots before the name."""
    words: tuple[str, ...]
    """The parts of the dotted name."""


def checksum_with_imports(path: Path, source: bytes, dotted: str = "") -> str:
    """The `code_checksum` of a file and of what it imports from its project; only the file's own if
    it imports nothing from there.

    `dotted`: the module's name, if it was found by name. Raises SyntaxError, UnicodeDecodeError.
    """
    own, imports = _read(source)
    imported = _imported(path.resolve(), imports, _roots(path.resolve(), dotted))
    if not imported:
        return own
    digest = hashlib.sha256(own.encode())
    for name, checksum in sorted(imported.items()):
        digest.update(f"\0{name}\0{checksum}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _imported(path: Path, imports: Sequence[_Import], roots: Sequence[Path]) -> dict[str, str]:
    """Checksums of the imported files, by path relative to the folder of the updater's file."""
    found: dict[str, str] = {}
    seen, waiting = {path}, [(path, imports)]
    while waiting:
        importer, imports = waiting.pop()
        for file in _files(importer, imports, roots):
            if file in seen:
                continue
            seen.add(file)
            if file.is_relative_to(_BULKUP):
                continue
            data = file.read_bytes()
            try:
                checksum, its_imports = _read(data)
                waiting.append((file, its_imports))
            except (SyntaxError, UnicodeDecodeError):  # the file may never really be imported
                checksum = hashlib.sha256(data).hexdigest()
            found[os.path.relpath(file, path.parent)] = checksum
    return found


@lru_cache(maxsize=1000)
def _read(source: bytes) -> tuple[str, tuple[_Import, ...]]:
    """The checksum of a file's code, and what it imports."""
    imports = []
    for node in ast.walk(ast.parse(decode_source(source))):
        if isinstance(node, ast.Import):
            imports += [_Import(0, tuple(alias.name.split("."))) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            words = node.module.split(".") if node.module else []
            # A name imported from a package may itself be a module.
            imports += [_Import(node.level, (*words, alias.name)) for alias in node.names]
    return code_checksum(source), tuple(dict.fromkeys(imports))


def _roots(path: Path, dotted: str) -> list[Path]:
    roots, above = [path.parent], path.parent
    while (above / "__init__.py").is_file():
        above = above.parent
    roots.append(above)
    levels = dotted.count(".")
    if levels and levels < len(path.parents):
        roots.append(path.parents[levels])
    return list(dict.fromkeys(roots))


def _files(importer: Path, imports: Sequence[_Import], roots: Sequence[Path]) -> Iterator[Path]:
    """The files of the project that a file imports."""
    for one in imports:
        above = importer.parents[: one.level][-1:]
        yield from _modules(above if one.level else roots, one.words)


def _modules(folders: Sequence[Path], words: Sequence[str]) -> Iterator[Path]:
    """The files that importing a dotted name runs: the module's and its parent packages'."""
    for folder in folders:
        found = []
        for word in words:
            for file in (folder / word / "__init__.py", folder / f"{word}.py"):
                if file.is_file():
                    found.append(file.resolve())
                    break
            folder = folder / word
        if found:
            yield from found
            return
