# SPDX-License-Identifier: Apache-2.0
"""Errors of calls of `torch.ops.mmadaptor`."""

import pytest
import torch


def assert_refused(op, *args, message):
    """An op of `torch.ops.mmadaptor` refuses arguments, and its fake kernel says why."""
    with pytest.raises(RuntimeError, match=message.partition(' ')[0]):
        op(*args)
    without_data = [x.to('meta') if isinstance(x, torch.Tensor) else x for x in args]
    with pytest.raises(ValueError, match=message):
        op(*without_data)
