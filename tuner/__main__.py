"""`python -m tuner`, the same as `tune`."""

from tuner.cli.main import run

run()
