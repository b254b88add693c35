"""The store: snapshot, outbox, dead letters, history and capture positions.

One protocol (`protocol`), one conformance suite for its implementations (`tests/integration/store`). Its methods are
whole steps, each one durable transaction when it returns: what must not be torn apart by a crash is never two calls.
"""
