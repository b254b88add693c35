"""The applications, and what may happen to them."""

WATCHED = tuple(f"hw-{number}" for number in range(150))
"""Anything may happen to these."""

BUSY = WATCHED[:5]
"""Much happens to these."""

STILL = tuple(f"still-{number}" for number in range(40))
"""Nothing ever happens to these."""

COSMETIC = tuple(f"cosmetic-{number}" for number in range(40))
"""Their rows are rewritten; nothing that counts changes."""

ABORTED = tuple(f"aborted-{number}" for number in range(20))
"""They change only in what is rolled back."""

UNCHANGED = frozenset((*STILL, *COSMETIC, *ABORTED))
"""HelloWork must get no call for these."""

STATUSES = ("NEW", "SEEN", "INTERVIEW", "OFFER", "HIRED", "REJECTED")
JOBS = ("job-1", "job-2", "job-3", "job-4")

FIRST = (STATUSES[0], JOBS[0])
"""Status and job of each row before the daemon's first start."""

AT_FIRST = frozenset((*WATCHED, *STILL, *COSMETIC, *ABORTED))
"""The applications of these rows."""
