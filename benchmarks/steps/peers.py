"""The training step beside a plain PyTorch loop over the same network, batch and arithmetic."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch

from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.measuring.counters import count_operations
from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result
from pclkd.benchmarks.measuring.rounds import Work, median_interval
from pclkd.benchmarks.measuring.session import Rates, Session
from pclkd.benchmarks.steps.case import UCF101_ROWS, StepNetworks, memory_in_use, peak_memory, random_batch, repeated
from pclkd.benchmarks.steps.matrix_limit import MatrixLimits
from pclkd.benchmarks.steps.plain_loop import PlainClips, PlainLoop
from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.convolutions import check_convolutions
from pclkd.training.compute.distributed import choose_device
from pclkd.training.compute.precision import Precision

__all__ = ["PEER_BACKBONE", "StepPeersBenchmark", "peer_shape", "plain_clips"]

PEER_BACKBONE = "r3d_18"
_OURS = f"pclkd_{PEER_BACKBONE}"
_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}
_NOTES = (
    f"all train torchvision's {PEER_BACKBONE} on the same noise, which stays on the device",
    "torch_loop: a forward pass of each clip, memory banks by index_select, torch.optim.SGD, .item() of all losses "
    "each step, contiguous memory, cuDNN's trials on like ours; _amp: with autocast, and a GradScaler in fp16",
    "pclkd_times: how many times as fast pclkd is, median of the rounds' ratios, with its interval",
)


@dataclass(frozen=True)
class StepPeersBenchmark:
    """What is measured.

    Attributes:
        shape: of the batch.
        distil: whether a frozen teacher of the same architecture is asked.
    """

    shape: ClipShape
    distil: bool = False

    def run(self, session: Session) -> BenchmarkResult:
        """Measure.

        Raises:
            InputError: arithmetic that this device gets wrong.
        """
        device = choose_device(World())
        rows = max(UCF101_ROWS, self.shape.batch_size)
        batch = random_batch(self.shape, rows, device)
        cases = _Cases(batch, rows, self.distil, MatrixLimits(self.shape.batch_size))
        teacher = PEER_BACKBONE if self.distil else None
        networks = StepNetworks(PEER_BACKBONE, teacher, 1.0).settled(batch)
        ours = cases.add_ours(networks)
        missing = {}
        for name, precision in (("fp32", "fp32"), ("amp", "auto" if device.type == "cuda" else "bf16")):
            try:
                cases.add_plain(f"torch_loop_{name}", precision)
            except InputError as error:
                missing[f"torch_loop_{name}"] = error.problem

        def told(rates: Rates) -> BenchmarkResult:
            rates = cases.limits.limits(rates)
            extra = {
                name: {
                    "tflop_per_step": tflop,
                    "ms_per_step": 1000 * self.shape.batch_size / median(rates[name]),
                    **cases.memory.get(name, {}),
                    **(_times(rates, name) if name in cases.work and name != _OURS else {}),
                }
                for name, tflop in cases.limits.tflop.items()
            }
            return make_result(
                "step-peers",
                "samples/s",
                rates,
                _OURS,
                {
                    "backbone": PEER_BACKBONE,
                    "teacher": teacher,
                    **self.shape.as_dict(),
                    "precision": ours.name,
                    "amp": cases.amp,
                    "compile": networks.options.compile,
                    "device": device.type,
                    "threads": torch.get_num_threads(),
                    "memory_bank_rows": rows,
                },
                bounds=cases.limits.bounds,
                extra=extra,
                missing=missing,
                notes=[*_told(extra), *_NOTES, cases.limits.note],
            )

        return session.measure(cases.work | cases.limits.work(), told)


@dataclass
class _Cases:
    """Steps that take turns."""

    batch: ClipBatch
    rows: int
    distil: bool
    limits: MatrixLimits
    work: dict[str, Work] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    amp: str | None = None

    def add_ours(self, networks: StepNetworks) -> Precision:
        precision = networks.precision(self._device)
        self.limits.add(_OURS, precision, networks.count(self.batch, self.rows, distil=self.distil))
        before = memory_in_use(self._device)
        step = networks.build(self.batch, self.rows, distil=self.distil)
        self.memory[_OURS] = peak_memory(lambda: step(self.batch), before, self._device)
        self.work[_OURS] = repeated(step, self.batch, options=networks.options)
        return precision

    def add_plain(self, name: str, wanted: str) -> None:
        precision = Precision(wanted, self._device)
        before = memory_in_use(self._device)
        loop = PlainLoop(self.rows, self._device, distil=self.distil, amp=_AMP.get(precision.name))
        clips = plain_clips(self.batch)
        check_convolutions(loop.network.encoder, clips.clips[0], precision)
        step = functools.partial(loop, clips)
        self.limits.add(name, precision, count_operations(step))
        self.memory[name] = peak_memory(step, before, self._device)
        self.work[name] = repeated(lambda _: step(), self.batch)
        self.amp = self.amp if precision.name == "fp32" else precision.name

    @property
    def _device(self) -> torch.device:
        return self.batch.clips.device


def peer_shape(batch_size: int | None = None, frames: int | None = None, crop: int | None = None) -> ClipShape:
    """By default the published size where there is a GPU; without one, what such a network makes in a second or two.

    Raises:
        InputError: as in ClipShape.
    """
    usual = (16, 16, 112) if torch.cuda.is_available() else (4, 8, 32)
    return ClipShape(batch_size or usual[0], usual[1] if frames is None else frames, crop, usual[2])


def plain_clips(batch: ClipBatch) -> PlainClips:
    """The same batch as three tensors in torch's usual layout."""
    first, second, third = (batch.clips[:, view].contiguous() for view in range(3))
    return PlainClips((first, second, third), batch.pretext_label, batch.sample_index)


def _times(rates: Mapping[str, Sequence[float]], name: str) -> dict[str, float]:
    ratios = [ours / theirs for ours, theirs in zip(rates[_OURS], rates[name], strict=True)]
    interval = median_interval(ratios)
    return {"pclkd_times": median(ratios), "times_low": interval.low, "times_high": interval.high}


def _told(extra: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [
        f"pclkd is {facts['pclkd_times']:.2f} times as fast as {name}"
        for name, facts in extra.items()
        if "pclkd_times" in facts
    ]
