# SPDX-License-Identifier: Apache-2.0
"""Trainings on the embedded dataset that show what each part gives.

`python -m studies NAME ...` does the studies that it is told, one of
`studies.py` each: every run a process and a folder of its own, with its log,
and its config beside it. A run that is there by the same config is not
repeated.
"""
