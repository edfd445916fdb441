"""The rooms of the package: who may import whom, and what costs too much to import.

    cli, the public API  ->  planners, host, launch, state, archive  ->  plan  ->  mounts  ->  ids

`seccomp` stands beside `mounts`. The pure rooms compute and touch nothing outside themselves.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "sublet"
TREE = PACKAGE.parent

# A room may import itself and rooms of a lower level. Rooms of the same level stay apart, but for
# the outermost ones that put things together.
LEVELS = {
    "_value": 0,
    "_version": 0,
    "errors": 0,
    "ids": 1,
    "mounts": 2,
    "seccomp": 2,
    "plan": 3,
    "planners": 4,
    "host": 4,
    "archive": 4,
    "state": 4,
    "launch": 4,
    "__init__": 5,
    "cli": 5,
    "__main__": 6,
}
# Said out loud, because they are exceptions to the levels.
ALSO = {
    "launch": {"host"},  # writing a map needs the helpers that host finds
    # the cache unpacks what it keeps, in a user namespace where the owners need one
    "state": {"archive", "host", "launch", "planners"},
    "cli": {"__init__"},
}

PURE = ("_value", "errors", "ids", "mounts", "seccomp", "plan", "planners")
IMPURE = frozenset(
    "asyncio ctypes datetime fcntl getpass glob grp io locale multiprocessing os "
    "pathlib platform pwd random resource secrets select shutil signal socket subprocess sys "
    "tempfile termios threading time urllib uuid".split()
)

# Rooms on the way to a running sandbox, and what costs more to import than all of their work.
HOT = ("_value", "errors", "ids", "mounts", "seccomp", "plan", "planners", "host", "launch", "cli")
DEAR = frozenset(
    "argparse asyncio collections contextlib ctypes dataclasses enum functools importlib inspect "
    "json logging multiprocessing pathlib re rich shutil subprocess tarfile tempfile tomllib "
    "traceback typing urllib zstandard".split()
)


class Import(NamedTuple):
    """One imported module: its full name, where it stands, and whether it runs at import time."""

    module: str
    place: str
    at_start: bool


def is_for_types(node: ast.stmt) -> bool:
    """Tell whether a statement is `if TYPE_CHECKING:`."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def names_of(node: ast.Import | ast.ImportFrom, package: list[str]) -> list[str]:
    """Return the full names that an import statement of a module in *package* may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = package[: len(package) - node.level + 1] if node.level else []
    start = [*base, *(node.module.split(".") if node.module else [])]
    if start == ["sublet"]:  # `from sublet import ids` names rooms
        return [f"sublet.{alias.name}" for alias in node.names]
    return [".".join(start)]


def imports_in(source: str, name: str, package: list[str]) -> list[Import]:
    """List the imports of one module's text, those for type checkers left out."""
    found: list[Import] = []

    def walk(nodes: list[ast.stmt], *, at_start: bool) -> None:
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                place = f"{name}:{node.lineno}"
                found.extend(Import(full, place, at_start) for full in names_of(node, package))
            if is_for_types(node):
                walk(getattr(node, "orelse", []), at_start=at_start)
                continue
            later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for field in ("body", "orelse", "finalbody"):
                walk(getattr(node, field, []), at_start=at_start and not later)
            for part in (*getattr(node, "handlers", []), *getattr(node, "cases", [])):
                walk(part.body, at_start=at_start)

    walk(ast.parse(source).body, at_start=True)
    return found


def room_of(path: Path) -> str:
    """Return the room that a file of the package belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[Import]:
    """List the imports of one of the package's files."""
    package = list(path.relative_to(TREE).parts[:-1])
    return imports_in(path.read_text(), str(path.relative_to(TREE)), package)


def room_named(module: str) -> str | None:
    """Return the room that a full module name lies in; None for modules of others."""
    parts = module.split(".")
    if parts[0] != "sublet":
        return None
    exists = len(parts) > 1 and any((PACKAGE / f"{parts[1]}{end}").exists() for end in ("", ".py"))
    return parts[1] if exists else "__init__"


FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TREE)))


@each_file
def test_every_room_has_a_level(path: Path) -> None:
    assert room_of(path) in LEVELS, "a new room: give it a level, and say if it is pure and hot"


@each_file
def test_imports_point_one_way(path: Path) -> None:
    here = room_of(path)
    allowed = {room for room, level in LEVELS.items() if level < LEVELS[here]}
    allowed |= ALSO.get(here, set()) | {here}
    wrong = [
        f"{found.place}: {here} imports {found.module}"
        for found in imports_of(path)
        if (room := room_named(found.module)) is not None and room not in allowed
    ]
    assert not wrong


@each_file
def test_pure_rooms_import_nothing_impure(path: Path) -> None:
    if room_of(path) not in PURE:
        return
    wrong = [
        f"{found.place}: {found.module}"
        for found in imports_of(path)
        if found.module.split(".")[0] in IMPURE
    ]
    assert not wrong


@each_file
def test_pure_rooms_open_no_file(path: Path) -> None:
    if room_of(path) not in PURE:
        return
    called = (
        node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    )
    wrong = [func.lineno for func in called if isinstance(func, ast.Name) and func.id == "open"]
    assert not wrong, f"open() in lines {wrong}"


@each_file
def test_the_way_to_a_sandbox_imports_nothing_dear(path: Path) -> None:
    if room_of(path) not in HOT or is_rare_verb(path):
        return
    wrong = [
        f"{found.place}: {found.module}"
        for found in imports_of(path)
        if found.at_start and found.module.split(".")[0] in DEAR
    ]
    assert not wrong


def is_rare_verb(path: Path) -> bool:
    """Tell whether a file is a module of a verb other than `run`: verbs are imported one by one."""
    shared = ("__init__.py", "run.py")
    return room_of(path) == "cli" and path.name not in shared and not path.name.startswith("_")


# The rules above must be able to fail.


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os", [("os", True)]),
        ("import os.path as p, json", [("os.path", True), ("json", True)]),
        ("from . import idmap", [("sublet.ids", True)]),
        ("from ..errors import MapError", [("sublet.errors", True)]),
        ("from sublet import plan", [("sublet.plan", True)]),
        ("def f():\n    import re", [("re", False)]),
        ("class C:\n    import re", [("re", True)]),
        ("try:\n    import a\nexcept E:\n    import b\nfinally:\n    import c", None),
        ("if TYPE_CHECKING:\n    import typing\nelse:\n    import x", [("x", True)]),
        ("with a:\n    import b", [("b", True)]),
    ],
)
def test_imports_are_found(source: str, expected: list[tuple[str, bool]] | None) -> None:
    found = [(one.module, one.at_start) for one in imports_in(source, "m", ["sublet", "ids"])]
    wanted = [(name, True) for name in "abc"] if expected is None else expected
    assert sorted(found) == sorted(wanted)


def test_files_were_found() -> None:
    assert {room_of(path) for path in FILES} >= {"_value", "errors", "ids", "mounts", "plan"}
