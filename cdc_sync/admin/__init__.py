"""Looking at the daemon: health, readiness, metrics, status, a page."""
