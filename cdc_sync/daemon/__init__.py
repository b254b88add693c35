"""Wiring and supervision: which parts run, what happens when one fails, how it all ends.

- A database that cannot be used stops its watch only: the watch reconnects with a backoff, everything else goes on.
- A store that cannot be written stops sending and consuming, until it can.
- Anything unforeseen ends the process: a daemon that is half alive is worse than one that systemd starts again.
"""
