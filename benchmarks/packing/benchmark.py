"""How fast videos become shards, beside the loop that people write and the sum of the bare stages.

t = seconds a frame      t(stages) = t(decode, scale) + t(encode)         the least that this way can take
                         t(plain) / t(decode)                             the most that any way can gain on plain
"""

import dataclasses
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import av
import PIL
import simplejpeg  # type: ignore[import-untyped]

from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result
from pclkd.benchmarks.measuring.rounds import Work
from pclkd.benchmarks.measuring.session import Rates, Session
from pclkd.benchmarks.packing.stages import ReadyFrames, decode_only, decode_scale, plain_frames, plain_loop
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.processes import available_cpus
from pclkd.sharding.datasets.dataset import Video
from pclkd.sharding.packing.pack import PackPlan, pack_videos, plan_packing
from pclkd.sharding.video.frames import UnreadableVideoError, open_video
from pclkd.sharding.video.settings import PackSettings

__all__ = ["ShardBenchmark"]

_NOTES = (
    "all but pack run in one process and one thread: frames a second and core, of the source",
    "plain: av.open, to_image, Pillow's bicubic resize, Pillow's JPEG encoder, at the same size, quality and chroma",
    "stages: decode and scale bare, and encoding bare on frames in memory, one after the other; pclkd can be no faster",
    "pack: a whole run into a temporary folder, processes started, hashes and index written; the videos several times, "
    "under several names",
    "the videos are in the page cache: the warm-up read them",
)


@dataclass(frozen=True)
class ShardBenchmark:
    """What is measured.

    Attributes:
        videos: folder of videos.
        splits: its lists, or None.
        settings: of packing; an exact size.
        most: videos a pass at most, taken evenly from the folder.
        run_frames: frames of the whole run, about: the videos are repeated.
        workers: processes of the whole run; 0 is one a core.
    """

    videos: Path
    splits: Path | None
    settings: PackSettings
    most: int
    run_frames: int
    workers: int

    def run(self, session: Session) -> BenchmarkResult:
        """Measure.

        Raises:
            InputError: videos or lists that cannot be read, or a video that cannot be decoded.
        """
        workers = self.workers or available_cpus()
        plan = plan_packing(self.videos, self.splits, allow_empty_split=True)
        videos = plan.dataset.videos
        videos = tuple(videos[row] for row in range(0, len(videos), -(-len(videos) // self.most)))
        paths = [Path(video.path) for video in videos]
        frames, sizes = _check(paths, self.settings)
        plan = self._whole_run(plan, videos, -(-self.run_frames // frames), workers)
        ready = ReadyFrames(paths, self.settings)
        with tempfile.TemporaryDirectory(prefix="pclkd-shard-") as scratch:
            cases: dict[str, Work] = {
                "plain": lambda: plain_loop(paths, self.settings),
                "pclkd": lambda: _convert(paths, self.settings),
                "decode": lambda: decode_only(paths),
                "decode_scale": lambda: decode_scale(paths, self.settings),
                "encode": ready.encode,
                "pack": lambda: _pack(plan, Path(scratch) / "out", workers),
            }
            seconds: dict[str, list[float]] = {name: [] for name in cases if name != "pack"}
            for name, spent in seconds.items():
                cases[name] = _watched(cases[name], spent)

            def told(rates: Rates) -> BenchmarkResult:
                rates["stages"] = [
                    1 / (1 / both + 1 / encode)
                    for both, encode in zip(rates["decode_scale"], rates["encode"], strict=True)
                ]
                extra = _extra(rates, workers, frames / len(paths))
                for name, spent in seconds.items():
                    extra[name]["cpu_us_per_frame"] = 1e6 * median(spent)
                for name, size in sizes.items():
                    extra[name]["bytes_per_frame"] = size
                ours = extra["pclkd"]
                return make_result(
                    "shard",
                    "frames/s",
                    rates,
                    "plain",
                    {
                        "videos": len(paths),
                        "frames": frames,
                        "size": f"{self.settings.height}x{self.settings.width}",
                        "quality": self.settings.quality,
                        "chroma": self.settings.chroma,
                        "workers": workers,
                        "av": av.__version__,
                        "pillow": PIL.__version__,
                        "simplejpeg": simplejpeg.__version__,
                    },
                    bounds={"pclkd": ["stages"], "plain": ["decode"], "stages": ["decode_scale", "encode"]},
                    extra=extra,
                    notes=[
                        f"pclkd: {ours['x_plain']:.2f} times the plain loop a core, where decoding alone would be "
                        f"{ours['x_plain_at_most']:.1f} times; {ours['of_stages_pct']:.0f} % of the bare stages' speed",
                        *_NOTES,
                    ],
                )

            return session.measure(cases, told)

    def _whole_run(self, plan: PackPlan, videos: tuple[Video, ...], repeats: int, workers: int) -> PackPlan:
        many = tuple(
            dataclasses.replace(video, key=f"{video.key[:80]}_{turn}") for turn in range(repeats) for video in videos
        )
        # Some shards for each process, as in a large data set.
        size = max(1, len(many) // (4 * workers))
        settings = dataclasses.replace(self.settings, videos_per_shard=size)
        return PackPlan(plan.videos, dataclasses.replace(plan.dataset, videos=many), settings)


def _check(paths: list[Path], settings: PackSettings) -> tuple[int, dict[str, float]]:
    """Return the number of frames, the same both ways, and the bytes of a stored frame each way."""
    counts, sizes = {"plain": 0, "pclkd": 0}, {"plain": 0, "pclkd": 0}
    for path in paths:
        try:
            with open_video(path, settings) as video:
                ours = [len(jpeg) for jpeg in video.frames]
        except UnreadableVideoError as error:
            raise InputError(f"{path} {error}", remedy="leave it out of the folder") from None
        for name, lengths in (("pclkd", ours), ("plain", [len(jpeg) for jpeg in plain_frames(path, settings)])):
            counts[name] += len(lengths)
            sizes[name] += sum(lengths)
    if counts["plain"] != counts["pclkd"]:
        raise RuntimeError(f"the cases disagree on the frames: {counts}")
    return counts["pclkd"], {name: sizes[name] / counts[name] for name in sizes}


def _convert(paths: list[Path], settings: PackSettings) -> float:
    count = 0
    for path in paths:
        with open_video(path, settings) as video:
            count += sum(1 for _ in video.frames)
    return float(count)


def _watched(work: Work, seconds: list[float]) -> Work:
    """Note the processor's seconds a frame as well: other programs on the machine disturb them less than the clock."""

    def run() -> float:
        began = time.process_time()
        done = work()
        seconds.append((time.process_time() - began) / done)
        return done

    return run


def _pack(plan: PackPlan, out: Path, workers: int) -> float:
    shutil.rmtree(out, ignore_errors=True)
    manifest = pack_videos(plan, out, workers=workers).manifest
    if manifest.quarantined:
        raise RuntimeError(f"left out {manifest.quarantined[0]}")
    return float(manifest.frames)


def _extra(rates: dict[str, list[float]], workers: int, frames_per_video: float) -> dict[str, dict[str, float]]:
    """Videos a second, and what the cases say about each other, each the median of the rounds."""

    def over(one: str, other: str) -> float:
        return median(a / b for a, b in zip(rates[one], rates[other], strict=True))

    extra = {name: {"videos_per_s": median(values) / frames_per_video} for name, values in rates.items()}
    decode, both, encode = (100 * over("pclkd", name) for name in ("decode", "decode_scale", "encode"))
    extra["pclkd"] |= {
        "x_plain": over("pclkd", "plain"),
        "x_plain_at_most": over("decode", "plain"),
        "of_stages_pct": 100 * over("pclkd", "stages"),
        "decode_pct": decode,
        "scale_pct": both - decode,
        "encode_pct": encode,
        "rest_pct": 100 - both - encode,
    }
    extra["pack"]["efficiency_pct"] = 100 * over("pack", "pclkd") / workers
    return extra
