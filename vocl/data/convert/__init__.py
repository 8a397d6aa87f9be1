"""Readers of datasets in the layout in which they are published, one module for each family."""
