"""Telling HelloWork: the HTTP client, and the sender that decides what goes out when."""
