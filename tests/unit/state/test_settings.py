from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sublet.state import settings as files

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "\r" not in text),
    st.text("\\n\n=x"),
)


@given(values=st.dictionaries(st.text("abc", min_size=1), TEXTS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_what_is_written_is_read(tmp_path: Path, values: dict[str, str]) -> None:
    path = str(tmp_path / "settings")
    files.write(path, values)
    assert files.read(path) == values


@pytest.mark.parametrize("name", ["missing", "file/below"])
def test_no_file_is_no_settings(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    assert files.read(str(tmp_path / name)) is None


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    path = str(tmp_path / "settings")
    files.write(path, {"rootfs": "/a\udcff\r\x85b"})
    assert files.read(path) == {"rootfs": "/a\udcff\r\x85b"}
