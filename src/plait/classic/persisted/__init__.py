"""Twisted's `persisted`: objects in files."""
