# SPDX-License-Identifier: Apache-2.0
"""Benchmarks with frozen shapes; each is one command."""
