"""The whole thing on one machine: an embedded PostgreSQL, the daemon, the emulator, and a recruiter who is played."""
