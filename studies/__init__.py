# SPDX-License-Identifier: Apache-2.0
"""Ablation studies on the embedded dataset and on real images.

`python -m studies NAME ...` runs the named studies of `studies.py`. Each run is
a separate process with its own folder, which holds its log; its config is saved
next to the folder. A run is skipped if its record exists and its config is
unchanged.
"""
