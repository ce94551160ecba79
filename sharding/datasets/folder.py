"""Any folder of class folders, without lists.

The parts may be told by folders named train, val or test above the class folders. Folders below a class folder are
groups: what is in `Jump/anna/` and in `Run/anna/` stays together when a test part is held out.
"""

from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.class_folders import source_name
from pclkd.sharding.datasets.dataset import Dataset, Video
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.names import folder_group, path_key, printable
from pclkd.sharding.datasets.parts import assign_parts, part_word
from pclkd.sharding.datasets.video_files import Listing, count_suffixes, find_videos, told_suffixes

__all__ = ["LAYOUT", "read_folder"]


def read_folder(root: str | Path, test_share: float = 0.0, listing: Listing | None = None) -> Dataset:
    """Take the first folder below `root` as the class of each video; labels follow the alphabet.

    Where all folders of the first level are named train, val or test, they are the parts and the next one is the class.

    Args:
        root: path or URL.
        test_share: 0 to 1, exclusive; of the groups or videos, when no folder tells the parts.
        listing: what is below `root`, where the caller has listed it already.

    Raises:
        InputError: no such folder, no video in a class folder, two videos that would share a key, or a test share for
            a folder that has parts.
    """
    listing = listing or find_videos(root)
    top = {video.folders[0] for video in listing.videos if video.folders}
    has_parts = "train" in map(part_word, top) and all(part_word(name) for name in top) and len(top) > 1
    videos, words, stray = [], [], []
    placed = []
    for video in listing.videos:
        folders = list(video.folders)
        word = part_word(folders.pop(0)) if has_parts and folders else None
        if folders:
            placed.append((video, folders, word))
        else:
            stray.append(printable(video.name))
    others = count_suffixes(name for name in listing.others if "/" in name)
    if not placed:
        there = f", only {stray[0]} beside them" if stray else f", only {told_suffixes(others)}" if others else ""
        raise InputError(
            f"no video in a class folder of {root}{there}",
            remedy="make a folder for each class, or write a table path,label and say --splits TABLE.csv",
        )
    classes = sorted({folders[0] for _, folders, _ in placed})
    labels = {name: label for label, name in enumerate(classes)}
    for video, folders, word in placed:
        words.append(word)
        group = folder_group(folders[1:], video.stem)
        key, relative = path_key(video.name), printable(video.name)
        videos.append(Video(video.path, relative, key, labels[folders[0]], group, {}))
    notes: tuple[str, ...] = (f"the folders {', '.join(sorted(top))} are parts of a split",) if has_parts else ()
    if len({tuple(folders[:2]) for _, folders, _ in placed if len(folders) > 1}) > 1 == len(classes):
        inner = storage.join(root, classes[0])
        notes += (f"all videos are of one class; give {inner} if it is the folder of the class folders",)
    if stray:
        notes += (f"{len(stray)} videos outside of class folders are left out, the first is {stray[0]}",)
    shown = tuple(map(printable, classes))
    dataset = Dataset(
        "folder", source_name(root), shown, (), tuple(videos), (), tuple(stray), notes, other_files=others
    )
    return assign_parts(dataset, words, test_share)


LAYOUT = Layout("folder", read_folder, "no lists: a folder for each class", lists=False)
