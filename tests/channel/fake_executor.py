"""An executor that is none: it says what a test has told it to.

Run as ``fake_executor.py --channel FD [--slot NAME=FD]... --plan FD``; $FAKE_SAYS holds words with
spaces between: a name of :data:`RECORDS` is sent, ``wait`` waits for a message, ``die`` kills this
process, ``sleep`` waits for its end; at the end of the words it exits.
"""

from __future__ import annotations

import array
import os
import signal
import socket
import subprocess
import sys
import time

from sublet.plan.message import SIZE, Message

STARTED = Message("started", phase="clone", value=os.getpid(), descriptors=1)
RECORDS: dict[str, tuple[bytes, int]] = {
    "started": (STARTED.encode(), 1),
    "ready": (Message("ready", phase="exec").encode(), 0),
    "running": (Message("running", phase="supervise").encode(), 0),
    "exited": (Message("exited", phase="supervise", value=7, wall_ns=5).encode(), 0),
    "signalled": (Message("exited", phase="supervise", ending="signal", value=9).encode(), 0),
    "late": (Message("exited", phase="mounts", ending="timeout").encode(), 0),
    "failed": (Message("failed", phase="directory", step="fchdir", error=2).encode(), 0),
    "notfound": (Message("failed", phase="exec", step="search", error=2).encode(), 0),
    "short": (Message("ready").encode()[:-1], 0),
    "long": (Message("ready").encode() + b"x", 0),
    "version": (b"\x63\0" + Message("ready").encode()[2:], 0),
    "kind": (Message("ready").encode()[:2] + b"\x63\0" + Message("ready").encode()[4:], 0),
    "inner": (Message("maps_wanted").encode(), 0),
    "smuggled": (Message("ready", phase="exec").encode(), 1),
    "crowd": (STARTED.encode(), 3),
    "throng": (STARTED.encode(), 100),
    "bare": (STARTED.encode(), 0),
}
assert len(RECORDS["started"][0]) == SIZE


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[sys.argv.index("--channel") + 1]))
    for word in os.environ["FAKE_SAYS"].split():
        if word == "wait":
            assert Message.decode(channel.recv(SIZE)).kind == "go"
        elif word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif word == "sleep":
            time.sleep(60)
        elif word == "heir":
            # Somebody else holds the channel open after our end.
            fd = channel.fileno()
            subprocess.Popen(["sleep", "2"], pass_fds=(fd,), stdout=subprocess.DEVNULL)
        elif word == "shout":
            print("out", sorted(int(fd) for fd in os.listdir("/proc/self/fd")), flush=True)
        else:
            record, count = RECORDS[word]
            fds = array.array("i", [os.pidfd_open(os.getpid()) for _ in range(count)])
            channel.sendmsg(
                [record], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if count else []
            )


if __name__ == "__main__":
    main()
