"""Benchmarks with frozen shapes; each is one command."""
