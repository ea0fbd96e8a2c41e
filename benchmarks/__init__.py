# SPDX-License-Identifier: Apache-2.0
"""Benchmarks with fixed shapes; each runs with one command."""
