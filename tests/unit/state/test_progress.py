from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from sublet.state.progress import PATIENCE_SECONDS, Progress

if TYPE_CHECKING:
    import pytest


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_quick_work_and_files_show_nothing() -> None:
    for stream, pause in ((Terminal(), 0.0), (io.StringIO(), PATIENCE_SECONDS)):
        with Progress("unpacking it", stream) as progress:
            progress(1, 100)
            time.sleep(pause)
            progress(100, 100)
        assert stream.getvalue() == ""


def test_long_work_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # a dumb one is spared
    stream = Terminal()
    with Progress("unpacking [bold]it[/]", stream) as progress:
        progress(1, 100_000)
        time.sleep(PATIENCE_SECONDS)
        progress(50_000, 100_000)
    assert "unpacking [bold]it[/]" in stream.getvalue()
    assert "kB" in stream.getvalue() or "KiB" in stream.getvalue()


def test_what_draws_is_not_loaded_before_it_is_needed() -> None:
    program = (
        "import sys, sublet.state.progress; sys.exit(any(m[:4] == 'rich' for m in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
