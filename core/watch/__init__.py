"""Watches: what they look at, what counts as a change, and what a handler is told."""
