"""The torture of several hosts: three daemons on one store, while hosts, networks, clocks and servers fail.

Everything runs in namespaces (network, processes, mounts, SysV memory) that end with the command, however it ends.

    daemon 1 ─┐             ┌─ ATS: a primary, in poll mode with two standbys
    daemon 2 ─┼─ a network ─┼─ store: a primary and a standby
    daemon 3 ─┘             └─ HelloWork: the emulator

Each daemon has a network namespace; each server has an address in the command's namespace. With `--tenants 50`, a
template watches fifty schemas, two daemons share them by leases, and the third one joins. The ATS's work and the
verdict are shared with the package `torture`.
"""
