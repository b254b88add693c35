"""The torture of several hosts: three daemons on one store, while hosts, networks, clocks and servers fail.

Everything runs in namespaces of its own (network, processes, mounts, SysV memory), which are gone with the command,
however it ends.

    daemon 1 ─┐             ┌─ ATS: a primary, in poll mode with two standbys
    daemon 2 ─┼─ a network ─┼─ store: a primary and a standby
    daemon 3 ─┘             └─ HelloWork: the emulator

Each daemon has a network namespace, hence addresses and connections of its own; the servers have an address each in the
namespace of the command. With `--tenants 50`, fifty schemas are watched by a template, two daemons share their watches
by leases, and the third one joins them. What is tortured, and the judgement, are shared with the package `torture`.
"""
