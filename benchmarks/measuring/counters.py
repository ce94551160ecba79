"""CPU time of a process with all its descendants: a measure of work that other users of the machine hardly disturb."""

import os
from pathlib import Path

__all__ = ["tree_seconds"]


def tree_seconds() -> float:
    """CPU seconds that this process and its living descendants have used, user and system, all threads.

    From Linux's /proc, in steps of a hundredth of a second. What processes used that have ended since is not in it.
    """
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            # The name stands in parentheses and may hold anything; after it: state, parent, ... utime, stime.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # ended just now
            continue
        parents[int(folder.name)] = int(fields[1])
        ticks[int(folder.name)] = int(fields[11]) + int(fields[12])
    ours = sum(used for process, used in ticks.items() if _descends(process, os.getpid(), parents))
    return ours / os.sysconf("SC_CLK_TCK")


def _descends(process: int, ancestor: int, parents: dict[int, int]) -> bool:
    while process and process != ancestor:
        process = parents.get(process, 0)
    return process == ancestor
