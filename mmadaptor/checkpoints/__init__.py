# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: read safely, loaded strictly, completed, written atomically."""
