"""Runs a command that ends with its parent, however that one ends.

python guard.py FOLDERS COMMAND…: standard input is a pipe that the parent holds open. When it closes, as it does
even when the parent is killed, the command and its children are killed and FOLDERS are removed; they stand as in PATH.
A byte in the pipe kills them too, and keeps the folders.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

LOOK_SECONDS = 0.1
PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Run the command until it ends or the parent does; returns its exit code."""
    folders, command = sys.argv[1].split(os.pathsep), sys.argv[2:]
    adopt_orphans()
    # A session of its own, so its whole group can be killed.
    process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
    orphaned = False
    try:
        while process.poll() is None:
            readable, _, _ = select.select([0], [], [], LOOK_SECONDS)
            if readable:
                orphaned = not os.read(0, 1)
                break
    finally:
        # The group outlives its leader while a child runs; only an empty one is not there.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        wait_for_orphans()
        for folder in filter(None, folders if orphaned else ()):
            shutil.rmtree(folder, ignore_errors=True)
    return code


def adopt_orphans() -> None:
    """Become the parent of the command's children when it ends, so they can be waited for. Only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_orphans() -> None:
    """Wait until no child is left: ports and locks are free then."""
    with suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    sys.exit(main())
