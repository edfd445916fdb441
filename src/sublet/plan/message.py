"""What launcher and executor say to each other: one message, and what may be said when.

A message is a record of fixed size on a SOCK_SEQPACKET socket. The order in which messages are
legal is the table ``dialogue`` of spec/wire.toml; docs/protocol.md tells the story around it.
"""

from __future__ import annotations

import struct

from sublet._value import Value
from sublet.errors import PlanError
from sublet.plan import _wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    Sender = Literal["executor", "launcher"]
    Kind = Literal[
        "started",
        "ready",
        "go",
        "running",
        "failed",
        "exited",
        "maps_wanted",
        "maps_written",
        "terminal",
    ]
    Ending = Literal["exit", "signal", "timeout", "lost"]
    State = Literal["starting", "preparing", "ready", "released", "running", "ended"]

_RECORD = struct.Struct(_wire.RECORDS["message"][0])
_FIELDS = _wire.RECORDS["message"][1]
SIZE = _RECORD.size
"""Bytes of a message; a record of another size is no message."""


class Message(Value):
    """One message. Fields have the names and meanings of ``records.message`` in spec/wire.toml.

    ``operation``: index of the plan's operation, None: not within one. ``error``: errno, 0: none.
    ``descriptors``: how many come along. ``ending`` and ``value`` speak of ``exited``: the status,
    or the signal's number; in ``started``, ``value`` is the PID. Times in nanoseconds (wall) and
    microseconds (user, system), memory in KiB.
    """

    kind: Kind
    phase: str = "start"
    step: str = "none"
    operation: int | None = None
    error: int = 0
    descriptors: int = 0
    ending: Ending = "exit"
    value: int = 0
    wall_ns: int = 0
    user_us: int = 0
    system_us: int = 0
    max_rss_kib: int = 0

    def encode(self) -> bytes:
        """Return the record."""
        numbers: list[int] = []
        for name, type_ in _FIELDS:
            value: Any = _wire.VERSION if name == "version" else getattr(self, name)
            kind, _, argument = type_.partition(":")
            if kind == "enum":
                value = _wire.ENUMS[argument][value]
            elif kind == "id" and value is None:
                value = _wire.NONE
            numbers.append(value)
        return _RECORD.pack(*numbers)

    @classmethod
    def decode(cls, record: bytes) -> Message:
        """Return the message of a record; PlanError where it is not one."""
        if len(record) != SIZE:
            raise PlanError(f"a message has {SIZE} bytes, and {len(record)} came")
        values: dict[str, Any] = {}
        for (name, type_), number in zip(_FIELDS, _RECORD.unpack(record), strict=True):
            kind, _, argument = type_.partition(":")
            if name == "version":
                if number != _wire.VERSION:
                    raise PlanError(f"a message of version {number} came, not {_wire.VERSION}")
            elif kind == "enum":
                names = [text for text, value in _wire.ENUMS[argument].items() if value == number]
                if not names:
                    raise PlanError(f"message.{name}: {number} is no {argument}")
                values[name] = names[0]
            else:
                values[name] = None if kind == "id" and number == _wire.NONE else number
        return cls(**values)


def next_state(state: State, sender: Sender, kind: Kind, *, sync_start: bool = False) -> State:
    """Return the state after *sender* said *kind* in *state*.

    ``sync_start``: the plan's setting of that name. PlanError where it may not be said then.
    """
    excluded = "no_sync_start" if sync_start else "sync_start"
    for row in _wire.DIALOGUE:
        if row[:3] == (state, sender, kind) and row[4] != excluded:
            return row[3]  # type: ignore[return-value] # spec/wire.toml has only states there
    raise PlanError(f"the {sender} may not say {kind!r} in state {state!r}")
