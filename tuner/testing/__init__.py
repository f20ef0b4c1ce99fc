"""Contract tests of everything that one file adds, and helpers for tests.

`pytest --pyargs tuner.testing` takes every target, space, task, runtime and exporter that the
catalog finds from the current folder, those of `$TUNE_PATH` too; `-k NAME` takes one. pytest and
hypothesis come with the extra `testing`.
"""
