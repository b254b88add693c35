"""Wiring and supervision: which parts run, what happens when one fails, how the daemon ends.

- A database that cannot be used stops only its watches, which reconnect with a backoff.
- A store that cannot be written stops sending and consuming until it can.
- Any unforeseen error ends the process: systemd restarts it, which is better than a half-working daemon.
"""
