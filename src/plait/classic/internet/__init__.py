"""Deferreds, the reactor, and what it does: connections, timers, threads, processes."""
