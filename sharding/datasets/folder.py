"""Any folder of class folders, without lists.

The parts may be told by folders named train, val or test above the class folders. Folders below a class folder are
groups: what is in `Jump/anna/` and in `Run/anna/` stays together when a test part is held out.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.class_folders import source_name
from pclkd.sharding.datasets.dataset import Dataset, Video
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.names import group_number, path_key, printable, ucf_group
from pclkd.sharding.datasets.parts import assign_parts, part_word
from pclkd.sharding.datasets.video_files import FoundVideo, find_videos

__all__ = ["LAYOUT", "read_folder"]


def read_folder(root: str | Path, test_share: float = 0.0, found: Sequence[FoundVideo] | None = None) -> Dataset:
    """Take the first folder below `root` as the class of each video; labels follow the alphabet.

    Where all folders of the first level are named train, val or test, they are the parts and the next one is the class.

    Args:
        root: path or URL.
        test_share: 0 to 1, exclusive; of the groups or videos, when no folder tells the parts.
        found: the videos below `root`, where the caller has listed them already.

    Raises:
        InputError: no such folder, no video in a class folder, two videos that would share a key, or a test share for
            a folder that has parts.
    """
    found = find_videos(root) if found is None else found
    top = {video.name.partition("/")[0] for video in found if "/" in video.name}
    has_parts = "train" in map(part_word, top) and all(part_word(name) for name in top) and len(top) > 1
    videos, words, stray = [], [], []
    placed = []
    for video in found:
        folders = video.name.split("/")[:-1]
        word = part_word(folders.pop(0)) if has_parts and folders else None
        if folders:
            placed.append((video, folders, word))
        else:
            stray.append(printable(video.name))
    if not placed:
        raise InputError(
            f"no video in a class folder of {root}" + (f", only {stray[0]} beside them" if stray else ""),
            remedy="make a folder for each class, or write a table path,label and say --splits TABLE.csv",
        )
    classes = sorted({folders[0] for _, folders, _ in placed})
    labels = {name: label for label, name in enumerate(classes)}
    for video, folders, word in placed:
        words.append(word)
        group = _group(PurePosixPath(video.name).stem, folders[1:])
        key, relative = path_key(video.name), printable(video.name)
        videos.append(Video(video.path, relative, key, labels[folders[0]], group, {}))
    dealt, numbers, notes = assign_parts(videos, words, test_share)
    if has_parts:
        notes = (f"the folders {', '.join(sorted(top))} are parts of a split", *notes)
    if len({tuple(folders[:2]) for _, folders, _ in placed if len(folders) > 1}) > 1 == len(classes):
        inner = storage.join(root, classes[0])
        notes += (f"all videos are of one class; give {inner} if it is the folder of the class folders",)
    if stray:
        notes += (f"{len(stray)} videos outside of class folders are left out, the first is {stray[0]}",)
    return Dataset("folder", source_name(root), tuple(map(printable, classes)), numbers, dealt, (), tuple(stray), notes)


def _group(name: str, folders: list[str]) -> int:
    return group_number("/".join(folders)) if folders else ucf_group(name)


LAYOUT = Layout("folder", read_folder, "no lists: a folder for each class", lists=False)
