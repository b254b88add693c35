"""Signals that come before the program can act on them.

Their default action ends a process, and the program takes half a second to import. So its first act is to hold these
signals. The kernel keeps one of each kind, and delivers it once the command has its handlers.
"""

import signal
from collections.abc import Sequence

ENDING = (signal.SIGINT, signal.SIGTERM)

HELD = (signal.SIGHUP, *ENDING)
"""The signals that wait."""


def hold() -> None:
    """Let these signals wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def deliver(numbers: Sequence[signal.Signals] = HELD) -> None:
    """Let signals come; those that waited come now.

    SIGALRM, too, which ends a process whose lease is over: the one that started this may have ignored or blocked it.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*numbers, signal.SIGALRM})
