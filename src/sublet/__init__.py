"""Sublet: rootless sandboxes and containers that live in borrowed IDs.

The names below are the public ones; everything else may change without notice. They are imported
when they are first used, since this file is on the way of every start of the command.
"""

from __future__ import annotations

from sublet._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.errors import (
        ArchiveError,
        CannotExecuteError,
        CommandNotFoundError,
        HostError,
        InputError,
        MapError,
        NotationError,
        NotDelegatedError,
        PlanError,
        SetupError,
        StateError,
        SubletError,
    )
    from sublet.ids import Extent, IdMap, IdSet, InsideId, OutsideId, Range
    from sublet.launch.report import Report
    from sublet.launch.spawn import Launched, spawn
    from sublet.plan.model import Plan

__all__ = [
    "ArchiveError",
    "CannotExecuteError",
    "CommandNotFoundError",
    "Extent",
    "HostError",
    "IdMap",
    "IdSet",
    "InputError",
    "InsideId",
    "Launched",
    "MapError",
    "NotDelegatedError",
    "NotationError",
    "OutsideId",
    "Plan",
    "PlanError",
    "Range",
    "Report",
    "SetupError",
    "StateError",
    "SubletError",
    "__version__",
    "spawn",
]

_HOMES = {
    "Extent": "sublet.ids",
    "IdMap": "sublet.ids",
    "IdSet": "sublet.ids",
    "InsideId": "sublet.ids",
    "OutsideId": "sublet.ids",
    "Range": "sublet.ids",
    "Report": "sublet.launch.report",
    "Launched": "sublet.launch.spawn",
    "spawn": "sublet.launch.spawn",
    "Plan": "sublet.plan.model",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'sublet' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOMES.get(name, "sublet.errors")), name)
    globals()[name] = value
    return value
