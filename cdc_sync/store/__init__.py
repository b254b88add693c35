"""The store: snapshot, outbox, dead letters, history and capture positions.

One conformance suite covers both implementations (`tests/integration/store`). Each method is one durable transaction,
so a crash cannot split a step.
"""
