"""Become a program that ends when the process that started it ends (Linux; run as a script).

    python launch.py PARENT_PID PROGRAM [ARGUMENT...]

Asking the kernel for a signal at the parent's death must happen in the child, between fork
and exec. Code of ours there (``preexec_fn``) may deadlock in a process with threads; a
fresh interpreter may do anything, and the request survives its exec. Nothing is imported
but the standard library, for this runs in isolated mode.

The signal is tied to the *thread* that forked: whoever starts this must do so from a
thread that lives as long as the program should.
"""

import ctypes
import os
import signal
import sys

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Ask for SIGTERM (a clean end) at the parent's death, then become ``command``."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(error)}")
    # The parent may have died before the request was made: nobody would ever signal us.
    if os.getppid() != parent:
        sys.exit(f"the process {parent} that started this one has ended")
    os.execv(command[0], command)  # noqa: S606 -- becoming the program is the purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
