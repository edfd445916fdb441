"""The pages of the documentation: what they show at a terminal, run and compared.

A block whose fence says ``console`` is a session: lines with ``$ `` are commands, the rest is what
they print, both streams together. A second word names who types: ``bob``, who has no sub-IDs, or
else alice, who has. All blocks of a page by the same person are one shell's, which starts in the
home directory. In what is printed, ``...`` stands for anything within a line, and for any lines
where it is alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from support.installed import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.users import User

FENCE = re.compile(r"^```console(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STOP = "-- the next command --"
PAGES = ("README.md", "docs/tutorial.md", "docs/how-to", "docs/reference")


class Step(NamedTuple):
    """A command, and what the page says that it prints."""

    command: str
    output: str


def pages() -> Iterator[Path]:
    """Yield the pages that have sessions."""
    for name in PAGES:
        place = CHECKOUT / name
        for path in sorted(place.glob("*.md")) if place.is_dir() else [place]:
            if FENCE.search(path.read_text()):
                yield path


def people(page: Path) -> list[str]:
    """Return who types on a page: alice, bob."""
    return sorted({found[1] or "alice" for found in FENCE.finditer(page.read_text())})


def steps(page: Path, who: str) -> list[Step]:
    """Return what *who* types on a page; a command may go on in lines that begin with ``> ``."""
    found: list[Step] = []
    for block in FENCE.finditer(page.read_text()):
        if (block[1] or "alice") != who:
            continue
        assert block[2].startswith("$ "), f"{page}: a session starts with a command: {block[2]}"
        for line in block[2].splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], ""))
            elif line.startswith("> ") and not found[-1].output:
                found[-1] = Step(f"{found[-1].command}\n{line[2:]}", "")
            else:
                found[-1] = Step(found[-1].command, f"{found[-1].output}{line}\n")
    return found


def run(user: User, todo: list[Step], names: dict[str, str]) -> list[str]:
    """Type the commands into one shell, and return what each prints.

    *names*: what the machine calls things, and what the pages call them.
    """
    script = "exec 2>&1\n" + "".join(
        f"{step.command}\n(s=$?; printf '%s\\n' '{STOP}'; exit $s)\n" for step in todo
    )
    done = user.run(["bash", "-c", script], timeout=300)
    assert done.stderr == ""
    text = done.stdout
    for name, instead in names.items():
        edge = "" if name.startswith("/") else r"\b"
        text = re.sub(f"{edge}{re.escape(name)}{edge}", instead, text)
    return text.split(f"{STOP}\n")[: len(todo)]


def matches(expected: str, actual: str) -> bool:
    """Tell whether *actual* is what a page says."""
    pattern = ""
    for line in expected.splitlines(keepends=True):
        if line == "...\n":
            pattern += "(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(piece) for piece in line.split("..."))
    return re.fullmatch(pattern, actual) is not None
