"""Delivery to HelloWork: the HTTP client, and the sender that decides what is sent when."""
