"""Resource limits and times, as texts."""

from __future__ import annotations

from sublet.errors import InputError
from sublet.plan import rlimits
from sublet.plan.model import Rlimit

LONGEST_SECONDS = 1_000_000_000


def parse_ulimit(text: str) -> Rlimit:
    """Return what ``--ulimit NAME=SOFT[:HARD]`` asks for; numbers as setrlimit(2) has them."""
    name, equals, values = text.partition("=")
    known = name.upper().removeprefix("RLIMIT_")
    if known not in rlimits.NAMES:
        names = ", ".join(rlimits.NAMES).lower()
        raise InputError(f"--ulimit {text}: there is no limit {name!r}", hint=f"There are {names}.")
    soft, colon, hard = values.partition(":")
    if not equals or not soft or (colon and not hard):
        raise InputError(
            f"--ulimit {text}: the value is missing",
            hint="Write NAME=SOFT or NAME=SOFT:HARD, for instance nofile=1024:4096.",
        )
    first = _limit(soft, text)
    second = _limit(hard, text) if colon else first
    if first > second:
        raise InputError(f"--ulimit {text}: the soft limit is above the hard one")
    return Rlimit(rlimits.NAMES.index(known), first, second)


def _limit(value: str, text: str) -> int:
    if value in {"unlimited", "-1"}:
        return rlimits.UNLIMITED
    if not (value.isascii() and value.isdigit()) or len(value) > 19:
        raise InputError(
            f"--ulimit {text}: {value!r} is not a number", hint="Write digits, or unlimited."
        )
    return int(value)


def parse_seconds(text: str) -> int:
    """Return a time in milliseconds, at least 1, from seconds: ``10``, ``0.25``."""
    whole, _, part = text.partition(".")
    digits = whole + part
    if not (digits.isascii() and digits.isdigit()) or len(whole) > 10:
        raise InputError(
            f"--timeout {text!r} is not a number of seconds", hint="Write 10, or 0.25."
        )
    milliseconds = int(whole or "0") * 1000 + int((part + "000")[:3])
    if not 0 < milliseconds <= LONGEST_SECONDS * 1000:
        raise InputError(
            f"--timeout {text} is out of range",
            hint=f"Use 0.001 to {LONGEST_SECONDS} seconds, or leave it out for no end.",
        )
    return milliseconds
