"""Videos without labels, for training that needs none: every video below a folder, whatever folders it lies in."""

from pathlib import Path

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.class_folders import source_name
from pclkd.sharding.datasets.dataset import NO_LABEL, Dataset, Video
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.names import folder_group, path_key, printable
from pclkd.sharding.datasets.parts import assign_parts
from pclkd.sharding.datasets.video_files import Listing, count_suffixes, find_videos, told_suffixes

__all__ = ["LAYOUT", "read_loose"]


def read_loose(root: str | Path, test_share: float = 0.0, listing: Listing | None = None) -> Dataset:
    """Take all videos below `root`, without labels; the videos of a folder are a group.

    Args:
        root: path or URL.
        test_share: 0 to 1, exclusive; of the groups or videos.
        listing: what is below `root`, where the caller has listed it already.

    Raises:
        InputError: no such folder, no video in it, or two videos that would share a key.
    """
    listing = listing or find_videos(root)
    others = count_suffixes(listing.others)
    if not listing.videos:
        there = f", only {told_suffixes(others)}" if others else ""
        raise InputError(f"no video in {root}{there}", remedy="give the folder that holds the videos")
    videos = tuple(
        Video(
            video.path,
            printable(video.name),
            path_key(video.name),
            NO_LABEL,
            folder_group(video.folders, video.stem),
            {},
        )
        for video in listing.videos
    )
    notes = ("the videos have no labels: networks can learn from them, and be measured on the pretext task alone",)
    dataset = Dataset("loose", source_name(root), (), (), videos, (), (), notes, other_files=others)
    return assign_parts(dataset, [None] * len(videos), test_share)


LAYOUT = Layout("loose", read_loose, "no lists: videos without labels, in any folders", lists=False)
