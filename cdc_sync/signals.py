"""Signals that come before the program can act on them; and the first process of a container.

The default action of a signal ends a process, and the program takes half a second to import. So its first act is to
hold the signals. The kernel keeps one of each kind, and delivers it once the command has its handlers.

The first process starts the program as its child, hands signals on, and ends with it: the kernel spares the first
process the default actions of signals, and the daemon relies on one of them: SIGALRM ends a leader that was stopped for
longer than its lease.
"""

import os
import signal

ENDING = (signal.SIGINT, signal.SIGTERM)

HELD = (signal.SIGHUP, *ENDING)
"""The signals that wait."""


_AWAITED = {*HELD, signal.SIGCHLD}

_BY_SIGNAL = 128
"""Added to a signal's number, it is the exit code of a process that the signal ended, as shells have it."""


def hold() -> None:
    """Let these signals wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def deliver() -> None:
    """Let signals come; those that waited come now.

    SIGALRM, too, which ends a process whose lease is over: the one that started this may have ignored or blocked it.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*HELD, signal.SIGALRM})


def leave_first_process() -> None:
    """In the first process: return in a child, hand signals on, reap children, and end with it. Elsewhere: nothing."""
    if os.getpid() != 1:
        return
    # Before the fork: of a child that ends at once the signal would be gone.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait(_AWAITED)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        process = -1
        while process != 0:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else _BY_SIGNAL - code)
