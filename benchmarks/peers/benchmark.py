"""This package's loader beside what people write without it: same clips, same work, one run.

Every case delivers the clips of the same plan in every pass, from its first request to its last batch on the device, so
none reads ahead while another one is timed (but for DALI's reader, which keeps a batch of bytes). Before anything is
timed, each makes one pass, and the clips of its first batch are compared with ours.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import torch
from torch.utils.data import DataLoader

from pclkd.benchmarks.loading.benchmark import decode_only, in_memory
from pclkd.benchmarks.loading.case import LoadCase, RecipeName
from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.measuring.counters import tree_seconds
from pclkd.benchmarks.measuring.places import local
from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result
from pclkd.benchmarks.measuring.rounds import Work, median_interval
from pclkd.benchmarks.measuring.session import Rates, Session
from pclkd.benchmarks.peers.clips import PeerWork, Sample, torch_loader
from pclkd.benchmarks.peers.dali import DaliShards
from pclkd.benchmarks.peers.shards import FolderClips, ShardClips, write_frame_folders
from pclkd.benchmarks.peers.videos import VIDEO_READERS, VideoClips, missing_library
from pclkd.pipeline.pixels.colours import STD
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.reading import read_dataset

__all__ = ["FOLDER_PROCESSES", "PeerBenchmark"]

FOLDER_PROCESSES = 16
"""As many as the published PCL code reads its folders of frames with."""
_GREY_LEVEL = 1 / (255 * sum(STD) / 3)  # after normalisation
_OTHER_FRAMES = 20.0  # grey levels: what other JPEG decoders, resizers and colour spaces never reach together
_NOTES = (
    "grey_levels_apart: mean difference between a peer's clips and ours, pixel by pixel; worst_sample: of the "
    "sample that differs most (a reader that gives other frames than those asked for shows here)",
    "pclkd_times: how many times as fast pclkd is, median of the rounds' ratios, with its interval",
    "cpu_ms_per_clip: CPU time of one more pass over all threads and processes; hardly depends on what else runs",
    "decode_only: the JPEG frames of these clips decoded from memory, all workers as threads; the pixels are dropped",
    "videos and shards are in the page cache: the warm-up read them",
    "peers run a process a worker, with one thread each, and torchvision's operators on float tensors; their batches "
    "are smaller where that keeps all workers busy",
    "torch_webdataset, torch_folders: Pillow decodes whole frames; nothing is resized, they lie at the stored size",
    "dali_webdataset: DALI's reader delivers whole Motion-JPEG streams, Python cuts them at the index's bounds, a "
    "second DALI graph decodes; it reads every frame of a video, in the order of the shards, and checks no sums",
)

Batches = Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]
"""Makes one pass: batches of ([B] sample ids, clips [B, V, C, T, H, W])."""


@dataclass(frozen=True)
class PeerBenchmark:
    """What is measured.

    Attributes:
        data: the shard set.
        videos: folder of the originals, or None to leave their readers out.
        splits: the lists that belong to the originals, where they have some.
        recipe: plain: crop, flip, normalise; full: all that training does.
        shape: of a batch.
        samples: samples a pass at most.
        workers: threads of this package's loader and processes of the others; 0 is one a core.
    """

    data: str | Path
    videos: Path | None
    splits: Path | None
    recipe: RecipeName
    shape: ClipShape
    samples: int
    workers: int

    def run(self, session: Session) -> BenchmarkResult:
        """Measure.

        Raises:
            InputError: a shard set or a folder that cannot be read, too few samples for a batch, a crop that does not
                fit, or a sample without its video.
        """
        case = LoadCase.choose(local(self.data, "peers"), self.recipe, self.shape, self.samples, self.workers)
        with ExitStack() as stack:
            loader = stack.enter_context(case.loader())
            passes: dict[str, Batches] = {
                "pclkd": lambda: ((batch.sample_index, batch.clips) for batch in loader.epoch(0))
            }
            peers, missing = self._peers(stack, case)
            ours = _collect(passes["pclkd"]())
            differences: dict[str, list[float]] = {}
            for name, batches in peers.items():
                try:
                    differences[name] = _distances(ours, batches())
                except Exception as error:
                    missing[name] = f"failed: {_first_line(error)}"
                else:
                    passes[name] = batches
            works = {name: _work(case, batches) for name, batches in passes.items()}
            bound = decode_only(case, in_memory(case))
            bound()
            cpu = {name: {"cpu_ms_per_clip": _cpu_ms(work)} for name, work in works.items()}

            def told(rates: Rates) -> BenchmarkResult:
                return make_result(
                    "peers",
                    "clips/s",
                    rates,
                    "pclkd",
                    case.settings | {"folder_processes": FOLDER_PROCESSES},
                    bounds={"pclkd": ["decode_only"]},
                    extra=cpu
                    | {
                        name: {
                            **_times(rates, name),
                            **cpu[name],
                            "grey_levels_apart": mean(levels),
                            "worst_sample": max(levels),
                        }
                        for name, levels in differences.items()
                    },
                    missing=missing,
                    notes=[*_strangers(differences), *_NOTES],
                )

            return session.measure({**works, "decode_only": bound}, told, warmup=0)

    def _peers(self, stack: ExitStack, case: LoadCase) -> tuple[dict[str, Batches], dict[str, str]]:
        """A pass of every peer that can run here, and why the others cannot."""
        work = PeerWork(self.data, case.recipe, case.shape.side, case.residual)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pclkd-peers-")))
        peers: dict[str, Batches] = {}
        missing: dict[str, str] = {}
        videos = self._originals(case)
        for name in VIDEO_READERS:
            reason = "--videos is not given" if videos is None else missing_library(name)
            if reason is None and videos is not None:
                peers[name] = _torch(case, VideoClips(work, case.samples, videos, name), case.workers)
            elif reason is not None:
                missing[name] = reason
        peers["torch_webdataset"] = _torch(case, ShardClips(work, case.samples), case.workers)
        folders = scratch / "folders"
        folders.mkdir()
        write_frame_folders(case.index, case.samples.tolist(), folders)
        peers["torch_folders"] = _torch(case, FolderClips(work, case.samples, folders), FOLDER_PROCESSES)
        dali = DaliShards(
            case.index,
            case.samples,
            case.recipe,
            case.graph("graph" if case.recipe.colours else "none"),
            take_residual=case.residual,
            scratch=scratch,
        )
        stack.enter_context(dali)
        peers["dali_webdataset"] = lambda: ((torch.from_numpy(ids), clips) for ids, clips in dali)
        return peers, missing

    def _originals(self, case: LoadCase) -> Mapping[str, str] | None:
        """Paths of the originals by sample key."""
        if self.videos is None:
            return None
        found = {video.key: video.path for video in read_dataset(self.videos, self.splits).videos}
        lacking = [key for key in map(case.index.key, case.samples.tolist()) if key not in found]
        if lacking:
            raise InputError(
                f"{len(lacking)} packed videos are not among the originals, the first is {lacking[0]}",
                remedy=f"give --videos and --splits that {self.data} was packed from",
            )
        return found


def _torch(case: LoadCase, dataset: "VideoClips | ShardClips | FolderClips", workers: int) -> Batches:
    loader: DataLoader[Sample] = torch_loader(
        dataset, len(case.samples), case.shape.batch_size, workers, pin_memory=case.device.type == "cuda"
    )
    return lambda: iter(loader)


def _work(case: LoadCase, batches: Batches) -> Work:
    return lambda: case.drain(clips for _, clips in batches())


def _cpu_ms(work: Work) -> float:
    """CPU time of a clip over all processes; taken apart from the rounds, so that looking costs them nothing."""
    began = tree_seconds()
    clips = work()
    return 1000 * (tree_seconds() - began) / clips


def _collect(batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> dict[int, torch.Tensor]:
    """Clips of the first batch by sample id; the pass is taken to its end."""
    kept: dict[int, torch.Tensor] = {}
    for ids, clips in batches:
        kept = kept or {int(sample): own.cpu().clone() for sample, own in zip(ids, clips, strict=True)}
    return kept


def _distances(ours: Mapping[int, torch.Tensor], batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
    """Mean difference in grey levels of each sample that `ours` holds; the pass is taken to its end."""
    found = [
        (own.cpu() - ours[int(sample)]).abs().mean().item() / _GREY_LEVEL
        for ids, clips in batches
        for sample, own in zip(ids, clips, strict=True)
        if int(sample) in ours
    ]
    if len(found) != len(ours):
        raise ValueError(f"{len(found)} of {len(ours)} samples delivered")
    return found


def _times(rates: Mapping[str, list[float]], name: str) -> dict[str, float]:
    ratios = [ours / theirs for ours, theirs in zip(rates["pclkd"], rates[name], strict=True)]
    interval = median_interval(ratios)
    return {"pclkd_times": median(ratios), "times_low": interval.low, "times_high": interval.high}


def _strangers(differences: Mapping[str, list[float]]) -> Iterator[str]:
    for name, levels in differences.items():
        if mean(levels) > _OTHER_FRAMES:
            yield f"{name} DELIVERS OTHER CLIPS: {mean(levels):.0f} grey levels apart; its rate proves nothing"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}{f': {lines[-1]}' if lines else ''}"[:200]
