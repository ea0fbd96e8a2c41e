"""Counts of parameters and operations."""
