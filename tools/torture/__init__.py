"""Torture: random work in the ATS while everything around the daemon fails, and afterwards HelloWork must know it all.

Each part draws from a generator of its own, made from the seed, so one seed makes one plan; when things happen is up to
the machine.

    writers ──▶ PostgreSQL ◀── proxy ◀── daemon ──▶ emulator
                    ▲            ▲         ▲          ▲
                 restarts    cuts, deaf  kill -9    faults
"""
