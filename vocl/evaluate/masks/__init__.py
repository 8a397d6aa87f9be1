"""Masks as data: kept by runs, or found by any method and read from files, and scored without a model."""
