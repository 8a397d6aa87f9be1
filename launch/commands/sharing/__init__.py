"""Verbs that take runs to other places, and bring them from there."""
