"""Capabilities by name, against the kernel's header where it is installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sublet.errors import InputError
from sublet.plan import capabilities

HEADER = Path("/usr/include/linux/capability.h")


def test_there_are_41_names_each_once() -> None:
    assert len(set(capabilities.NAMES)) == 41
    assert capabilities.ALL == 0x1FFFFFFFFFF


@pytest.mark.skipif(not HEADER.exists(), reason="the kernel's headers are not installed")
def test_the_numbers_are_the_kernel_s() -> None:
    found = re.findall(r"^#define CAP_([A-Z_]+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE)
    for name, number in found:
        if name in capabilities.NAMES:
            assert capabilities.NAMES[int(number)] == name
    assert len(found) >= 38


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("CAP_CHOWN", 1),
        ("cap_net_raw", 1 << 13),
        ("Net_Raw", 1 << 13),
        ("checkpoint_restore", 1 << 40),
        ("all", capabilities.ALL),
        ("none", 0),
        ("63", 1 << 63),
        ("0", 1),
    ],
)
def test_names_are_read_in_every_spelling(text: str, mask: int) -> None:
    assert capabilities.parse(text) == mask


@pytest.mark.parametrize("text", ["", "cap_", "net raw", "cap_cap_chown", "64", "-1", "001", "²"])
def test_what_is_no_capability_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="there is no capability") as caught:
        capabilities.parse(text)
    assert repr(text) in str(caught.value)


def test_names_and_masks_are_each_other_s_inverse() -> None:
    for number in range(64):
        bits = 1 << number | 1
        assert capabilities.mask(capabilities.names(bits)) == bits
    assert capabilities.names(1 << 13 | 1) == ("CAP_CHOWN", "CAP_NET_RAW")
    assert capabilities.names(0) == ()


def test_a_container_s_root_cannot_leave_its_container() -> None:
    usual = set(capabilities.names(capabilities.CONTAINER))
    assert len(usual) == 11
    assert not usual & {"CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_MKNOD", "CAP_SYS_PTRACE", "CAP_BPF"}
