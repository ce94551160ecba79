"""Where to decode: a short race between the CPU and nvJPEG on the first batch."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from pclkd.pipeline.loader.prepare import PreparedBatch
from pclkd.pipeline.pixels.dali import FrameDecoder, FrameGraph, release_unused_memory

__all__ = ["Calibration", "choose_decoder", "race"]

_LIMIT_S = 2.5  # for the whole choice; graphs that are slow to build get fewer rounds
_ROUNDS = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """Where frames are decoded, and why.

    Attributes:
        decode: the choice.
        reason: in words.
        seconds: what building the decoders and the race took.
        frames_per_s: what each way reached in the race; empty where there was none.
        gpu_mib: GPU memory that the decoder holds outside of torch after its first batches, in MiB; 0 on a CPU. It
            grows with the batch alone: DALI keeps one buffer an operator, and one a batch that is prefetched or in use.
    """

    decode: Literal["cpu", "mixed"]
    reason: str
    seconds: float = 0.0
    frames_per_s: Mapping[str, float] = field(default_factory=dict)
    gpu_mib: float = 0.0

    def tags(self) -> dict[str, float | str]:
        """For TensorBoard and metrics.jsonl; units stand in the tags."""
        rates = {f"throughput/calibrated_{mode}_frames_per_s": rate for mode, rate in self.frames_per_s.items()}
        return {
            "loader/decode": self.decode,
            "time/calibration_s": self.seconds,
            **rates,
            **({"memory/decoder_gib": self.gpu_mib / 1024} if self.gpu_mib else {}),
        }

    def __str__(self) -> str:
        rates = "".join(f", {mode} {rate:.0f} frames/s" for mode, rate in self.frames_per_s.items())
        memory = f", {self.gpu_mib:.0f} MiB of GPU memory" if self.gpu_mib else ""
        return f"decode={self.decode} ({self.reason}{rates}; {self.seconds:.1f} s{memory})"


def choose_decoder(
    graph: FrameGraph, wanted: Literal["auto", "cpu", "mixed"], probe: Callable[[], PreparedBatch | None]
) -> tuple[FrameDecoder, Calibration]:
    """Make the decoder; with `auto` on a GPU, decode one batch a few times each way and keep the faster one.

    Args:
        graph: the graph; its `decode` is replaced.
        wanted: where to decode; auto is cpu where there is no GPU.
        probe: reads a batch of the data set for the race; called only if there is one. None: none can be read.

    Returns:
        The decoder, and what was found; that is in the log, too.
    """
    began = time.perf_counter()
    free = _free_mib(graph.device)
    batch = probe() if wanted == "auto" and graph.device.type == "cuda" else None
    if batch is not None:
        decoder, rates = _faster(graph, batch, _LIMIT_S + began)
        reason = "the faster one"
    else:
        rates = {}
        reason = "as set" if wanted != "auto" else "no GPU" if graph.device.type == "cpu" else "no batch to try"
        decoder = FrameDecoder(replace(graph, decode="mixed" if wanted == "mixed" else "cpu"))
    seconds = time.perf_counter() - began
    found = Calibration(decoder.graph.decode, reason, seconds, rates, max(free - _free_mib(graph.device), 0.0))
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


def _faster(graph: FrameGraph, batch: PreparedBatch, deadline: float) -> tuple[FrameDecoder, dict[str, float]]:
    decoders = {mode: FrameDecoder(replace(graph, decode=mode)) for mode in ("cpu", "mixed")}

    def run(decoder: FrameDecoder) -> Callable[[], None]:
        def decode() -> None:
            decoder.decode(batch.jpegs, batch.plan.augment)
            torch.cuda.synchronize(graph.device)

        return decode

    best = race({mode: run(decoder) for mode, decoder in decoders.items()}, deadline)
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
