"""Labelled images: reading, checking, splitting, resizing."""

from tuner.data.dataset import Dataset
from tuner.data.source import is_gone, open_again, open_dataset

__all__ = ["Dataset", "is_gone", "open_again", "open_dataset"]
