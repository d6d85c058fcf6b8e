"""Processes that are killed at every moment of what they do with a session."""
