"""The torture of several hosts: three daemons on one store, while hosts, networks, clocks and servers fail.

Everything runs in namespaces (network, processes, mounts, SysV memory) that end with the command, however it ends.

    daemon 1 ─┐             ┌─ ATS: a primary, in poll mode with two standbys
    daemon 2 ─┼─ a network ─┼─ store: a primary and a standby
    daemon 3 ─┘             └─ HelloWork: the emulator

One daemon leads, the others stand by. Each has a host: a namespace of network, name and boot; each server an address
in the command's namespace. With `--tenants 50` a template watches fifty schemas. The ATS's work and most of
the verdict are shared with the package `torture`.
"""
