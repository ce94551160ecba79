"""What `bench-throughput all` measures: which commands, how the time is dealt out, and how much work fits it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SECTIONS", "Material", "Section"]


@dataclass(frozen=True)
class Material:
    """What the sections work on.

    Attributes:
        data: the shard set.
        many: the same videos over and over where there are too few for training on a GPU, else `data`.
        videos: folder of the originals, or None.
        splits: their lists, or None.
        cores: that this process may use.
        gpu: whether there is one.
        rendered: videos that were rendered for this; 0 where they are the user's.
    """

    data: str | Path
    many: str | Path
    videos: Path | None
    splits: Path | None
    cores: int
    gpu: bool
    rendered: int = 0


@dataclass(frozen=True)
class Section:
    """One command.

    Attributes:
        name: of the section.
        weight: its part of the time: seconds that three quick turns take on 2 cores.
        arguments: the command for that material and about so many seconds of 2 cores' work.
        gpu_weight: the same beside a GPU, where networks have their full size and each kind of step is compiled in
            several ways, a minute of the compiler's for the first that needs it; None: as without.
        needs_videos: whether it cannot do without the originals.
    """

    name: str
    weight: float
    arguments: Callable[[Material, float], list[str]]
    gpu_weight: float | None = None
    needs_videos: bool = False

    def share(self, material: Material) -> float:
        """Its weight here."""
        return self.weight if self.gpu_weight is None or not material.gpu else self.gpu_weight


def _originals(material: Material) -> list[str]:
    videos = [] if material.videos is None else ["--videos", str(material.videos)]
    return videos + ([] if material.splits is None else ["--splits", str(material.splits)])


def _shard(material: Material, seconds: float) -> list[str]:
    return ["shard", *_originals(material), *([] if seconds > 90 else ["--quick"])]


def _load(recipe: str) -> Callable[[Material, float], list[str]]:
    def arguments(material: Material, _seconds: float) -> list[str]:
        # A pass of a few batches hardly gets beyond its start, and these are short anyway.
        samples = "512" if material.gpu else "64"
        return ["load", "--data", str(material.many), "--recipe", recipe, "--samples", samples, "--quick"]

    return arguments


def _peers(recipe: str, slowness: float) -> Callable[[Material, float], list[str]]:
    def arguments(material: Material, seconds: float) -> list[str]:
        # Starting the peers' processes takes half a minute on 2 cores; each case then makes six passes at least.
        room = seconds / slowness
        sizes = ((256, 330), (128, 180), (64, 105), (32, 62), (16, 42), (8, float("-inf")))
        samples = next(n for n, least in sizes if room >= least)
        size = ["--samples", str(samples), "--batch-size", str(min(samples, 16))]
        return ["peers", "--data", str(material.data), *_originals(material), "--recipe", recipe, *size, "--quick"]

    return arguments


def _plain(*command: str) -> Callable[[Material, float], list[str]]:
    return lambda _material, _seconds: [*command, "--quick"]


def _train(material: Material, _seconds: float) -> list[str]:
    return ["train", "--data", str(material.many), "--quick"]


def _scale_videos(material: Material, seconds: float) -> list[str]:
    sizes = next(
        sizes
        for sizes, least in (("1000,10000,100000,1000000", 200), ("1000,100000", 40), ("1000,10000", float("-inf")))
        if seconds >= least
    )
    return ["scale", "--data", str(material.data), "--videos", sizes, "--quick"]


def _scale_processes(material: Material, _seconds: float) -> list[str]:
    from pclkd.benchmarks.processes.benchmark import usual_processes

    counts = ",".join(map(str, usual_processes()))
    return ["scale", "--data", str(material.many), "--processes", counts, "--quick"]


SECTIONS = (
    Section("shard", 12, _shard, needs_videos=True),
    Section("load_plain", 8, _load("plain")),
    Section("load_full", 11, _load("full")),
    Section("step", 8, _plain("step"), gpu_weight=100),
    Section("teacher", 12, _plain("teacher"), gpu_weight=80),
    Section("train", 12, _train, gpu_weight=60),
    Section("peers_plain", 45, _peers("plain", 1.0)),
    Section("peers_full", 62, _peers("full", 1.4)),
    Section("step_peers", 16, _plain("step", "--peers"), gpu_weight=60),
    Section("step_options", 20, _plain("step", "--options"), gpu_weight=200),
    Section("scale_videos", 16, _scale_videos),
    Section("scale_processes", 22, _scale_processes, gpu_weight=40),
)
"""In the order in which they are measured: where time runs out, what most people look for first is there."""
