"""How frames become clips: by which operators, and where they are decoded, after a short race on the first batch."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from pclkd.pipeline.config import LoaderSettings, Operators, PixelPath
from pclkd.pipeline.loader.prepare import PreparedBatch
from pclkd.pipeline.pixels.dali import FrameDecoder, FrameGraph, release_unused_memory
from pclkd.pipeline.pixels.frame_graph import Colours, UndecodableFramesError
from pclkd.pipeline.pixels.kernel_check import kernels_fault
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["Calibration", "check_decoding", "choose_decoder", "choose_operators", "race"]

_LIMIT_S = 2.5  # for the whole choice; graphs that are slow to build get fewer rounds
_ROUNDS = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """Where frames are decoded, by which operators they are changed, and why.

    Attributes:
        decode: the choice.
        reason: of it, in words.
        operators: the choice; "auto" on a CPU, where there is none.
        operators_reason: of it, in words.
        seconds: what building the decoders and the race took.
        frames_per_s: what each way reached in the race; empty where there was none.
        gpu_mib: GPU memory that the decoder holds outside of torch after its first batches, in MiB; 0 on a CPU. It
            grows with the batch alone: DALI keeps one buffer an operator, and one a batch that is prefetched or in use.
    """

    decode: Literal["cpu", "mixed"]
    reason: str
    operators: Operators = "auto"
    operators_reason: str = ""
    seconds: float = 0.0
    frames_per_s: Mapping[str, float] = field(default_factory=dict)
    gpu_mib: float = 0.0

    @property
    def path(self) -> PixelPath:
        """What other loaders are to be told, so that they deliver the same pixels."""
        return PixelPath(self.decode, self.operators)

    def tags(self) -> dict[str, float | str]:
        """For TensorBoard and metrics.jsonl; units stand in the tags."""
        rates = {f"throughput/calibrated_{mode}_frames_per_s": rate for mode, rate in self.frames_per_s.items()}
        return {
            "loader/decode": self.decode,
            **({"loader/operators": self.operators} if self.operators != "auto" else {}),
            "time/calibration_s": self.seconds,
            **rates,
            **({"memory/decoder_gib": self.gpu_mib / 1024} if self.gpu_mib else {}),
        }

    def __str__(self) -> str:
        rates = "".join(f", {mode} {rate:.0f} frames/s" for mode, rate in self.frames_per_s.items())
        memory = f", {self.gpu_mib:.0f} MiB of GPU memory" if self.gpu_mib else ""
        operators = f", operators={self.operators} ({self.operators_reason})" if self.operators != "auto" else ""
        return f"decode={self.decode} ({self.reason}{rates}; {self.seconds:.1f} s{memory}){operators}"


def choose_operators(device: torch.device, wanted: Operators, *, changed: bool) -> tuple[Colours, Operators, str]:
    """Who flips, changes colours, blurs and normalises on a device.

    Args:
        device: where clips are delivered.
        wanted: as the settings ask, or as another process decided.
        changed: whether any clip's colours or sharpness may change (`Recipe.colours`).

    Returns:
        The graph's part in it; the choice; and why.

    Raises:
        InputError: kernels are wanted, and are wrong here or do not run.
    """
    if device.type == "cpu":
        return "fused", "auto", "on a CPU"
    dali: Colours = "graph" if changed else "none"
    if wanted == "dali":
        return dali, "dali", "as set"
    fault = kernels_fault(device)
    if not fault:
        return "kernels", "kernels", "as set" if wanted == "kernels" else "equal to the CPU's steps"
    if wanted == "kernels":
        raise InputError(
            f"loader.operators=kernels: {fault} on {device}", remedy="--set loader.operators=dali, in all processes"
        )
    return dali, "dali", f"kernels: {fault}"


def choose_decoder(
    graph: FrameGraph,
    wanted: Literal["auto", "cpu", "mixed"],
    probe: Callable[[], PreparedBatch | None],
    operators: tuple[Operators, str] = ("auto", ""),
) -> tuple[FrameDecoder, Calibration]:
    """Make the decoder; with `auto` on a GPU, decode one batch a few times each way and keep the faster one.

    Args:
        graph: the graph; its `decode` is replaced.
        wanted: where to decode; auto is cpu where there is no GPU.
        probe: reads a batch of the data set for the race; called only if there is one. None: none can be read.
        operators: what was chosen as `graph.colours`, and why.

    Returns:
        The decoder, and what was found; that is in the log, too.
    """
    began = time.perf_counter()
    free = _free_mib(graph.device)
    batch = probe() if wanted == "auto" and graph.device.type == "cuda" else None
    if batch is not None and (raced := _faster(graph, batch, _LIMIT_S + began)):
        (decoder, rates), reason = raced, "the faster one"
    else:
        rates = {}
        reason = "as set" if wanted != "auto" else "no GPU" if graph.device.type == "cpu" else "no batch to try"
        decoder = FrameDecoder(replace(graph, decode="mixed" if wanted == "mixed" else "cpu"))
    seconds = time.perf_counter() - began
    memory = max(free - _free_mib(graph.device), 0.0)
    found = Calibration(decoder.graph.decode, reason, *operators, seconds, rates, memory)
    _log.info("%s", found)
    return decoder, found


def race(
    ways: Mapping[str, Callable[[], None]],
    deadline: float,
    *,
    rounds: int = _ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """The shortest time of each way, in seconds.

    Every way warms up once and is timed once, whatever it takes; further rounds begin only where one like the last ends
    before the deadline. The ways alternate, so that a busy moment of the machine hits all of them.

    Args:
        ways: what to time, by name.
        deadline: on the clock.
        rounds: timed rounds at most.
        clock: tells the time in seconds.
    """
    for run in ways.values():
        run()
    best = dict.fromkeys(ways, float("inf"))
    for number in range(rounds):
        round_began = clock()
        for name, run in ways.items():
            began = clock()
            run()
            best[name] = min(best[name], clock() - began)
        now = clock()
        if number + 1 < rounds and now + (now - round_began) > deadline:
            break
    return best


def _faster(graph: FrameGraph, batch: PreparedBatch, deadline: float) -> tuple[FrameDecoder, dict[str, float]] | None:
    """The decoder that is faster, and the rates; None where the batch cannot be decoded, which its stage deals with."""
    decoders = {mode: FrameDecoder(replace(graph, decode=mode)) for mode in ("cpu", "mixed")}

    def run(decoder: FrameDecoder) -> Callable[[], None]:
        def decode() -> None:
            decoder.decode(batch.jpegs, batch.plan.augment)
            torch.cuda.synchronize(graph.device)

        return decode

    try:
        best = race({mode: run(decoder) for mode, decoder in decoders.items()}, deadline)
    except UndecodableFramesError:
        for decoder in decoders.values():
            decoder.close()
        return None
    chosen = decoders.pop(min(best, key=lambda mode: best[mode]))
    for loser in decoders.values():
        loser.close()
    decoders.clear()
    release_unused_memory()
    return chosen, {mode: graph.frames / seconds for mode, seconds in best.items()}


def _free_mib(device: torch.device) -> float:
    """Free GPU memory, as if torch held none of it."""
    if device.type != "cuda":
        return 0.0
    free, _ = torch.cuda.mem_get_info(device)
    return (free + torch.cuda.memory_reserved(device)) / 2**20


def check_decoding(index: ShardIndex, settings: LoaderSettings, device: torch.device) -> None:
    """Refuse a crop that does not fit the stored frames, and what needs a GPU where there is none.

    Raises:
        InputError: with the remedy.
    """
    height, width = index.smallest_frame
    if settings.crop > min(height, width):
        raise InputError(
            f"loader.crop {settings.crop} does not fit the stored frames of {height}x{width} in {index.root}",
            remedy=f"--set loader.crop={min(height, width) // 2 * 2} or less, or pack with a larger --size",
        )
    if settings.decode == "mixed" and device.type != "cuda":
        raise InputError("loader.decode=mixed needs a GPU, and this process has none", remedy="use decode=auto")
    if settings.operators != "auto" and device.type != "cuda":
        raise InputError(
            f"loader.operators={settings.operators} needs a GPU, and this process has none", remedy="use operators=auto"
        )
