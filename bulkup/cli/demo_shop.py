"""The sample shop of `bulkup demo`: its data, its updater, and what is shown with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bulkup.core.errors import NotFoundError, UsageError

UPDATER = "price_to_cents.py"
DATA = "products.jsonl"
STORE = "shop.db"

_LOAD = f"bulkup local load {STORE} {{}} --kind Product --id-field sku"
LOAD = _LOAD.format(DATA)
RUN = f"bulkup run {UPDATER} --local {STORE}"
LOOK = f"bulkup local dump {STORE} --limit 2"
ODD = "P2000"
"""The product whose price is not a number."""


@dataclass(frozen=True)
class Step:
    """An explanation, and the commands it announces."""

    text: str
    commands: tuple[str, ...]


STEPS = (
    Step(
        '2,000 products, with prices that are strings such as "12.50" (one says "ask us"):',
        (LOAD, LOOK),
    ),
    Step(
        f"{UPDATER} turns them into whole cents. Preview it (-n writes nothing):",
        (f"{RUN} -n --limit 2",),
    ),
    Step(
        "Now for real. This run stops half-way, as it does after Ctrl-C; resume continues it.",
        (f"{RUN} --limit 700", "bulkup resume"),
    ),
    Step(
        "The product whose price is not a number has failed; all others are written, once each:",
        ("bulkup list", LOOK),
    ),
)

NEXT = (
    Step(
        "Give that product a price, and run the updater again; it leaves alone what is done:",
        (
            f"""echo '{{"sku": "{ODD}", "name": "Rare book", "price": "99.00"}}' \\\n"""
            f"    | {_LOAD.format('-')}",
            RUN,
        ),
    ),
    Step(
        "Load the strings again, press Ctrl-C in the middle of this slow run, and resume it:",
        (LOAD, f"{RUN} --new --max-rate 200", "bulkup resume"),
    ),
)


def examples() -> Path:
    """The folder of example updaters: in the installed package, or in the repository.

    Raises NotFoundError.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "examples", package.parent / "updaters"):
        if (folder / UPDATER).is_file():
            return folder
    raise NotFoundError(
        "the example updaters are missing from this installation; install bulkup again with pip"
    )


def lay_out(folder: Path) -> None:
    """Create the folder with the data and the updater.

    Raises UsageError for a folder that is not empty, or that cannot be created.
    """
    source = examples() / UPDATER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise UsageError(
            f"cannot create the folder {str(folder)!r} ({error.strerror}); name another one"
        ) from error
    if not is_empty:
        raise UsageError(
            f"{str(folder)!r} is not empty, and the demo does not touch existing files; work "
            "there, or name a new folder: bulkup demo DIR"
        )
    with (folder / DATA).open("x", encoding="utf-8") as lines:
        lines.writelines(json.dumps(one) + "\n" for one in products())
    shutil.copyfile(source, folder / UPDATER)


_LOOKS = (
    "Amber", "Blue", "Bright", "Compact", "Copper", "Folding", "Green", "Heavy", "Ivory", "Light",
    "Linen", "Oak", "Plain", "Red", "Round", "Silver", "Small", "Square", "Striped", "Tall",
)  # fmt: skip
_THINGS = (
    "basket", "bench", "blanket", "bottle", "bowl", "box", "brush", "chair", "clock", "cup",
    "cushion", "desk", "jar", "kettle", "ladder", "lamp", "mirror", "pan", "plate", "rug",
    "shelf", "stool", "table", "tray", "vase",
)  # fmt: skip
_SIZES = ("S", "M", "L", "XL")


def products() -> Iterator[dict[str, object]]:
    """2,000 products, the same ones every time. The last has a price that is not a number."""
    for number, (look, thing, size) in enumerate(product(_LOOKS, _THINGS, _SIZES), 1):
        cents = 199 + number * 7_919 % 19_800
        sku = f"P{number:04}"
        yield {
            "sku": sku,
            "name": f"{look} {thing}, {size}",
            "price": f"{cents // 100}.{cents % 100:02}" if sku != ODD else "ask us",
            "stock": number * 31 % 97,
        }
