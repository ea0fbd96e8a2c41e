# SPDX-License-Identifier: Apache-2.0
"""Counts of parameters and operations."""
