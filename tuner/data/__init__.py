"""Labelled images: reading, checking, splitting, resizing."""

from tuner.data.dataset import Dataset
from tuner.data.source import open_dataset

__all__ = ["Dataset", "open_dataset"]
