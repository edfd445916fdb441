from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from sublet.errors import StateError
from sublet.state.locks import Lock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


def test_one_alone_or_several_together(path: str) -> None:
    with Lock(path) as one, Lock(path) as two, Lock(path) as three:
        assert one.take(shared=True)
        assert two.take(shared=True, wait=False)
        assert not three.take(wait=False)
        two.close()
        one.close()
        assert three.take(wait=False)


def test_refusal_names_the_thing(path: str) -> None:
    with Lock(path) as one, Lock(path) as two:
        one.take()
        with pytest.raises(StateError, match="the name x is in use") as caught:
            two.take_or_refuse("the name x", "Wait.")
        assert caught.value.path == path


def test_two_who_change_from_shared_to_alone_do_not_wait_for_each_other(path: str) -> None:
    ready = threading.Barrier(2)
    done = []

    def work() -> None:
        with Lock(path) as lock:
            lock.take(shared=True)
            ready.wait(5)
            lock.take()
            done.append(lock)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(10)
    assert len(done) == 2


def test_whoever_waited_for_a_removed_lock_takes_the_new_one(path: str, tmp_path: Path) -> None:
    holder = Lock(path)
    holder.take()
    waiter = Lock(path)
    thread = threading.Thread(target=waiter.take, daemon=True)
    thread.start()
    (tmp_path / "lock").unlink()
    with Lock(path) as other:
        other.take()
        holder.close()
        thread.join(0.1)
        assert thread.is_alive(), "the removed file's lock was taken for the new one's"
    thread.join(5)
    assert not thread.is_alive()
    with Lock(path) as late:
        assert not late.take(wait=False)
    waiter.close()
