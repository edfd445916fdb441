"""`sublet plan`: explain, convert or run a plan that was saved."""

from __future__ import annotations

import os
import sys

from sublet.cli._options import did_you_mean, parse
from sublet.errors import InputError, PlanError
from sublet.plan import codec, jsonform
from sublet.plan._wire import MAGIC, MAX_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sublet.plan.model import Plan

ACTIONS = {"explain": 1, "convert": 2, "run": 1}
"""What can be done, and how many arguments that takes at most."""


def main(argv: Sequence[str]) -> int:
    """Explain, convert or run a plan."""
    given = parse("plan", {}, argv, mixed=True)
    if "help" in given.flags:
        from sublet.cli._help import main as show

        return show(["plan"])
    see = "`sublet plan --help` says how it is used."
    if not given.rest:
        raise InputError("sublet plan needs one of explain, convert and run", hint=see)
    action, *files = given.rest
    if action not in ACTIONS:
        raise InputError(f"sublet plan cannot {action}", hint=did_you_mean(action, ACTIONS) or see)
    if not 1 <= len(files) <= ACTIONS[action]:
        raise InputError(f"sublet plan {action}: {len(files)} files are given", hint=see)
    plan, was_wire = _load(files[0])
    if action == "explain":
        from sublet.plan.explain import explain

        print("\n".join(explain(plan)))
    elif action == "convert":
        text = jsonform.to_json(plan).rstrip("\n") + "\n" if was_wire else ""
        _save(files[1] if len(files) > 1 else "-", text.encode() if text else codec.encode(plan))
    else:
        _run(plan, files[0])
    return 0


def _load(path: str) -> tuple[Plan, bool]:
    """Return the plan in a file, and whether it had the wire form. InputError, PlanError."""
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise InputError(
            f"cannot read the plan {path}: {error.strerror}", path=path, errno=error.errno
        ) from None
    wire = data.startswith(MAGIC)
    try:
        if wire:
            return codec.decode(data), True
        return jsonform.from_json(data.decode()), False
    except UnicodeDecodeError:
        raise PlanError(
            f"{path} is no plan: neither JSON nor the executor's form",
            path=path,
            hint="`sublet run --plan --json` writes one.",
        ) from None
    except PlanError as error:
        raise PlanError(f"{path}: {error.what}", path=path, hint=error.hint) from None


def _save(path: str, data: bytes) -> None:
    if path == "-":
        if os.isatty(1) and data.startswith(MAGIC):
            raise InputError(
                "the executor's form is not for a terminal", hint="Name a file to write it to."
            )
        sys.stdout.buffer.write(data)
        return
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}", path=path, errno=error.errno
        ) from None


def _run(plan: Plan, path: str) -> None:
    if plan.slots:
        raise InputError(
            f"{path} cannot be run again: its slots {', '.join(plan.slots)} stand for descriptors"
            " that only the program had that made it",
            path=path,
        )
    from sublet.launch.become import become

    become(plan)
