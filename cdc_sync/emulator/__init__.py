"""HelloWork's status API for staging and the demo: it checks, answers and records calls."""
