"""Tests import their neighbours (`cases`, `test_vmamba`, ...) by name."""
import os
import pathlib
import sys

for folder in ('engine', 'ops', 'models', 'models/backbones'):
    sys.path.insert(0, str(pathlib.Path(__file__).parent / folder))

# The CUDA kernels on an emulated device, in place of the CPU's own (see
# ops/test_cuda_emulation.py).
if 'EMULATION_LIBRARY' in os.environ:
    import torch

    import mmadaptor.ops  # noqa: F401
    torch.ops.load_library(os.environ['EMULATION_LIBRARY'])
