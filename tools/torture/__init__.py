"""Torture: random work in the ATS while everything around the daemon fails; afterwards HelloWork must know it all.

Each part has a generator of its own, made from the seed: one seed makes one plan, in the machine's time.

    writers ──▶ PostgreSQL ◀── proxy ◀── daemon ──▶ emulator
                    ▲            ▲         ▲          ▲
                 restarts    cuts, deaf  kill -9    faults
"""
