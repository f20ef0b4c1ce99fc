"""Labelled images: reading, checking, splitting, resizing."""

from tuner.data.dataset import Dataset
from tuner.data.source import open_again, open_dataset

__all__ = ["Dataset", "open_again", "open_dataset"]
