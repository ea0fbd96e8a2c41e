"""Tests import their neighbours (`cases`, `test_vmamba`, ...) by name."""
import pathlib
import sys

for folder in ('engine', 'ops', 'models', 'models/backbones'):
    sys.path.insert(0, str(pathlib.Path(__file__).parent / folder))
