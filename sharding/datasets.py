"""Reading a data set of any known layout."""

from pathlib import Path

from pclkd.sharding.errors import InputError
from pclkd.sharding.ucf101 import read_ucf101
from pclkd.sharding.videos import Dataset

__all__ = ["read_dataset"]


def read_dataset(videos: str | Path, splits: str | Path | None = None) -> Dataset:
    """Read a data set: its lists, and the videos that are there.

    Args:
        videos: path or URL of the folder of videos.
        splits: path or URL of the lists.

    Raises:
        InputError: anything wrong with the videos or the lists.
    """
    if splits is None:
        raise InputError(f"no lists for {videos}", remedy="say --splits FOLDER")
    return read_ucf101(videos, splits)
