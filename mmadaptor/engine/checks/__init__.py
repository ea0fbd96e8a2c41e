# SPDX-License-Identifier: Apache-2.0
"""What is checked of a job before anything long starts."""
