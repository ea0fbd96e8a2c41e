"""The tests of the tools run the jobs that tests/engine/jobs.py defines."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'engine'))
