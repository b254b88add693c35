"""The demo: an embedded PostgreSQL, the daemon, the emulator and a played recruiter, on one machine."""
