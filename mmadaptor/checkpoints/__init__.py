"""Checkpoints: read safely, loaded strictly, converted, completed."""
