"""What the teacher costs: its logits are computed on the fly, in every step."""

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.measuring.counters import count_operations
from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result
from pclkd.benchmarks.measuring.rounds import Work
from pclkd.benchmarks.measuring.session import Rates, Session
from pclkd.benchmarks.steps.case import UCF101_ROWS, StepNetworks, random_batch, repeated
from pclkd.benchmarks.steps.matrix_limit import MatrixLimits
from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.world import World
from pclkd.training.compute.distributed import choose_device
from pclkd.training.loop.build import make_ready
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.settings import KdSettings
from pclkd.training.runs.teacher_cache import RememberedFeatures

__all__ = ["TeacherBenchmark"]

_AIM = 1.1  # overhead over share of the arithmetic
_NOTES = (
    "overhead_pct: by how much longer a step takes with the teacher, median over the rounds",
    "flop_share_pct: by how much more is computed: its forward pass over the same clips, without backward",
    "by_flop_share: the steps without the teacher, slowed down by its share; a forward pass may be quicker",
    "features, features_cached: PCL and the distance to the teacher's features (kd.feature_weight): of the student's "
    "clips, asked in every step, or of whole videos, read from a memory-mapped file; to fill that takes one forward "
    "pass of 4 clips a video, and it does not speak of the student's moments",
    "noise on the device: no data is loaded",
)


@dataclass(frozen=True)
class TeacherBenchmark:
    """What is measured: the networks, and the shape of the batch."""

    networks: StepNetworks
    shape: ClipShape

    def run(self, session: Session) -> BenchmarkResult:
        """Measure steps without and with the teacher, and the teacher's forward pass alone.

        Raises:
            InputError: an unknown backbone, or arithmetic that this device gets wrong.
        """
        device = choose_device(World())
        precision = self.networks.precision(device)
        rows = max(UCF101_ROWS, self.shape.batch_size)
        batch = random_batch(self.shape, rows, device)
        networks = self.networks.settled(batch)
        limits = MatrixLimits(self.shape.batch_size)
        cases: dict[str, Work] = {}
        for name in ("pcl", "pcl_kd"):
            limits.add(name, precision, networks.count(batch, rows, distil=name == "pcl_kd"))
            cases[name] = repeated(networks.build(batch, rows, distil=name == "pcl_kd"), batch)
        kd = KdSettings(pretext_weight=0.0, contrast_weight=0.0, feature_weight=1.0)
        for name, answers in (("features", None), ("features_cached", _on_disk(networks, rows))):
            step = networks.build(batch, rows, distil=True, kd=kd, answers=answers)
            cases[name] = repeated(step, batch)
        cases["teacher_forward"] = repeated(frozen_teacher(networks, batch), batch)
        counted = frozen_teacher(networks.varied(compile="off", gpu_forms="off"), batch)
        limits.add("teacher_forward", precision, count_operations(lambda: counted(batch)))

        def told(rates: Rates) -> BenchmarkResult:
            rates = limits.limits(rates)
            # Round by round, so that a busy moment meets both.
            overhead = statistics.median(
                100 * (alone / taught - 1) for alone, taught in zip(rates["pcl"], rates["pcl_kd"], strict=True)
            )
            work = limits.tflop
            share = 100 * (work["pcl_kd"] / work["pcl"] - 1)
            rates["by_flop_share"] = [rate / (1 + share / 100) for rate in rates["pcl"]]
            extra = {name: {"tflop_per_step": tflop} for name, tflop in work.items()}
            extra["pcl_kd"] |= {
                "overhead_pct": overhead,
                "flop_share_pct": share,
                "overhead_over_flop_share": overhead / share,
            }
            saved = statistics.median(
                100 * (1 - live / read) for live, read in zip(rates["features"], rates["features_cached"], strict=True)
            )
            extra["features_cached"] = {"shorter_pct": saved}
            for name in work:
                extra[name]["ms_per_step"] = 1000 * self.shape.batch_size / statistics.median(rates[name])
            return make_result(
                "teacher",
                "samples/s",
                rates,
                "pcl",
                {
                    "backbone": networks.backbone,
                    "teacher": networks.teacher,
                    "width": networks.width,
                    **self.shape.as_dict(),
                    "precision": precision.name,
                    "device": device.type,
                    "threads": torch.get_num_threads(),
                    "compile": networks.options.compile,
                },
                bounds={**limits.bounds, "pcl_kd": ["by_flop_share", *limits.bounds["pcl_kd"]]},
                extra=extra,
                notes=[
                    f"the teacher makes a step {overhead:.1f} % longer and computes {share:.1f} % more: "
                    f"{overhead / share:.2f} times its share; the aim, at most "
                    f"{_AIM} times, is {'met' if overhead <= _AIM * share else 'missed'}",
                    f"with --teacher-cache a step that learns features is {saved:.1f} % shorter",
                    *_NOTES,
                    limits.note,
                ],
            )

        return session.measure(cases | limits.work(), told)


def _on_disk(networks: StepNetworks, rows: int) -> RememberedFeatures:
    """Features of the teacher's length of so many videos, memory-mapped: noise."""
    dim = build_backbone(networks.teacher or networks.backbone, networks.width).feature_dim
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:  # what is mapped stays readable
        np.save(file.name, np.random.default_rng(0).standard_normal((rows, dim), np.float32))
        return RememberedFeatures(torch.from_numpy(np.load(file.name, mmap_mode="c")))


def frozen_teacher(networks: StepNetworks, batch: ClipBatch) -> Callable[[ClipBatch], None]:
    """The forward pass of the step's teacher over such a batch, as the objective asks it: frozen, in inference mode."""
    name = networks.teacher or networks.backbone
    model = PclModel(build_backbone(name, networks.width)).requires_grad_(False).eval()
    precision = networks.precision(batch.clips.device)
    make_ready(model, batch.clips.shape, precision, networks.settings)

    @torch.inference_mode()
    def ask(batch: ClipBatch) -> None:
        with precision.autocast():
            model(batch.clips)

    return ask
