"""Keeps HelloWork informed of what happens in a legacy ATS's PostgreSQL database."""

__version__ = "0.3.0"
