"""Messages as records, and who may say what when."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from sublet.errors import PlanError
from sublet.plan import _wire
from sublet.plan.message import SIZE, Message, next_state

FULL = Message(
    "failed",
    phase="mounts",
    step="openat2",
    operation=4,
    error=2,
    descriptors=1,
    ending="lost",
    value=-9,
    wall_ns=1,
    user_us=2,
    system_us=3,
    max_rss_kib=2**64 - 1,
)


@pytest.mark.parametrize("kind", _wire.ENUMS["message"])
def test_a_message_is_read_back_as_it_was(kind: Any) -> None:
    assert Message.decode(Message(kind).encode()) == Message(kind)


def test_a_full_message_is_read_back_as_it_was() -> None:
    record = FULL.encode()
    assert len(record) == SIZE == 64
    assert Message.decode(record) == FULL
    assert struct.unpack_from("<4HIi", record) == (1, 5, 8, 6, 4, 2)


@pytest.mark.parametrize(
    ("place", "sentence"),
    [(0, "version 777"), (2, "kind: 777"), (4, "phase: 777"), (6, "step: 777")],
)
def test_a_number_that_names_nothing_is_refused(place: int, sentence: str) -> None:
    record = bytearray(FULL.encode())
    struct.pack_into("<H", record, place, 777)
    with pytest.raises(PlanError, match=sentence):
        Message.decode(bytes(record))


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_record_of_another_size_is_refused(length: int) -> None:
    with pytest.raises(PlanError, match=f"has 64 bytes, and {length} came"):
        Message.decode(bytes(length))


GOOD = ["started", "ready", "running", "exited"]


def spoken(words: list[str], *, sync_start: bool) -> str:
    """Return the state after these were said; `go` is the launcher's."""
    state: Any = "starting"
    for word in words:
        sender: Any = "launcher" if word == "go" else "executor"
        state = next_state(state, sender, word, sync_start=sync_start)  # type: ignore[arg-type]
    return str(state)


def test_a_launch_that_goes_well() -> None:
    assert spoken(GOOD, sync_start=False) == "ended"
    assert spoken([*GOOD[:2], "go", *GOOD[2:]], sync_start=True) == "ended"


@pytest.mark.parametrize("before", [0, 1, 2])
def test_set_up_may_fail_until_the_payload_runs(before: int) -> None:
    assert spoken([*GOOD[:before], "failed"], sync_start=False) == "ended"
    assert spoken([*GOOD[:before], "failed"], sync_start=True) == "ended"


@pytest.mark.parametrize(
    ("words", "sync_start"),
    [
        ([*GOOD, "failed"], False),
        ([*GOOD[:3], "failed"], False),
        ([*GOOD[:3], "ready"], False),
        (["ready"], False),
        (["started", "started"], False),
        (["started", "go"], True),
        (["started", "ready", "go"], False),
        (["started", "ready", "running"], True),
        (["started", "ready", "go", "go"], True),
        (["started", "terminal"], False),
        (["maps_wanted"], False),
    ],
)
def test_what_the_table_does_not_have_may_not_be_said(words: list[str], sync_start: bool) -> None:
    with pytest.raises(PlanError, match=f"may not say '{words[-1]}' in state"):
        spoken(words, sync_start=sync_start)


def test_the_dialogue_names_only_what_there_is() -> None:
    for state, sender, message, following, when in _wire.DIALOGUE:
        assert {state, following} <= set(_wire.ENUMS["state"])
        assert sender in _wire.ENUMS["sender"]
        assert message in _wire.ENUMS["message"]
        assert when in {"", "sync_start", "no_sync_start"}
    reached = {"starting"} | {row[3] for row in _wire.DIALOGUE}
    assert reached == set(_wire.ENUMS["state"])
