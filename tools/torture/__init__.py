"""Torture: random work in the ATS while everything around the daemon fails; afterwards HelloWork must know it all.

Each part has a generator of its own, made from the seed: one seed makes one plan, in the machine's time.

    writers ──▶ PostgreSQL ◀── proxy ◀── daemon ──▶ emulator
                    ▲            ▲         ▲          ▲
                 restarts    cuts, deaf  kill -9    faults

With `--hosts` there are three daemons on one store: one leads, the others stand by. Everything runs in namespaces
(network, processes, mounts, SysV memory) that end with the command, however it ends.

    daemon 1 ─┐             ┌─ ATS: a primary, in poll mode with two standbys
    daemon 2 ─┼─ a network ─┼─ store: a primary and a standby
    daemon 3 ─┘             └─ HelloWork: the emulator

Each daemon has a host: a namespace of network, name and boot; each server an address in the command's namespace.
"""
