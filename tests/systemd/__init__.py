"""The package and its units under a systemd that really boots, in a container on this machine.

`make test-systemd` runs it. It wants root and a few packages, says which are missing, and needs about a minute.
"""
