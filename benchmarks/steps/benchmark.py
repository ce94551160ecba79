"""How fast a training step is when its batch lies on the device already: PCL, and PCL with a teacher."""

import statistics
from dataclasses import dataclass, field

import torch

from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.measuring.counters import peak_tflop_per_s
from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result
from pclkd.benchmarks.measuring.rounds import Work
from pclkd.benchmarks.measuring.session import Rates, Session
from pclkd.benchmarks.steps.case import UCF101_ROWS, StepNetworks, memory_in_use, peak_memory, random_batch, repeated
from pclkd.benchmarks.steps.lines import StepLines, step_lines
from pclkd.benchmarks.steps.matrix_limit import MatrixLimits
from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.distributed import choose_device
from pclkd.training.compute.step import TrainStep
from pclkd.training.objective.objective import Objective

__all__ = ["StepBenchmark"]


@dataclass(frozen=True)
class StepBenchmark:
    """What is measured.

    Attributes:
        networks: what is trained.
        shape: of the batch.
        options: whether each choice that the step makes gets a line of its own, with that one thing changed.
    """

    networks: StepNetworks
    shape: ClipShape
    options: bool = False

    def run(self, session: Session) -> BenchmarkResult:
        """Measure.

        Raises:
            InputError: an unknown backbone, or arithmetic that this device gets wrong.
        """
        device = choose_device(World())
        self.networks.precision(device)
        batch = random_batch(self.shape, max(UCF101_ROWS, self.shape.batch_size), device)
        trained = self.networks.settled(batch)
        cases = _Cases(batch, MatrixLimits(self.shape.batch_size))
        names = ("pcl", "pcl_kd") if trained.teacher else ("pcl",)
        steps = {name: cases.add(name, trained, distil=name == "pcl_kd") for name in names}
        fused = bool(steps["pcl"].optimizer.defaults.get("fused"))
        lines = StepLines({}, {})
        if self.options:
            lines = step_lines(trained, device, fused=fused, quick=session.quick)
        missing = dict(lines.missing)
        for name, networks in lines.changed.items():
            try:
                cases.add(name, networks, distil=trained.teacher is not None)
            except InputError as error:
                missing[name] = error.problem
            except RuntimeError as error:  # a compiler's, or the GPU's memory
                missing[name] = f"failed: {(str(error).strip() or type(error).__name__).splitlines()[0][:200]}"
        precision = trained.precision(device).name
        peak = peak_tflop_per_s(device, precision)
        notes = ["noise on the device: no data is loaded", cases.limits.note]
        if device.type == "cuda":
            notes.append("memory beside the batch, of one case alone")
        if peak is not None:
            notes.append(f"of_data_sheet_pct: of {peak:.0f} TFLOP/s, the GPU's dense peak in {precision}")
        if self.options:
            notes.append(f"each line beside {names[-1]}, the step as trained, changes the one thing that it names")

        def told(rates: Rates) -> BenchmarkResult:
            rates = cases.limits.limits(rates)
            return make_result(
                "step",
                "samples/s",
                rates,
                names[-1] if self.options else "pcl",
                {
                    "backbone": trained.backbone,
                    "teacher": trained.teacher,
                    "width": trained.width,
                    **self.shape.as_dict(),
                    "precision": precision,
                    "device": device.type,
                    "threads": torch.get_num_threads(),
                    "memory_bank_rows": max(UCF101_ROWS, self.shape.batch_size),
                    "compile": trained.options.compile,
                    "optimizer": "sgd, fused" if fused else "sgd",
                    "layout": trained.options.layout,
                },
                bounds=cases.limits.bounds,
                extra={
                    name: cases.facts.get(name, {}) | self._speed(rates[name], tflop, peak if name in names else None)
                    for name, tflop in cases.limits.tflop.items()
                },
                missing=missing,
                notes=notes,
            )

        return session.measure(cases.work | cases.limits.work(), told)

    def _speed(self, rates: list[float], tflop: float, peak: float | None) -> dict[str, float]:
        """The median rate (samples/s) in other units."""
        steps = statistics.median(rates) / self.shape.batch_size
        speed = {
            "tflop_per_step": tflop,
            "tflop_per_s": tflop * steps,
            "clips_per_s": steps * self.shape.batch_size * self.shape.views,
            "ms_per_step": 1000 / steps,
        }
        return speed if peak is None else {**speed, "of_data_sheet_pct": 100 * speed["tflop_per_s"] / peak}


@dataclass
class _Cases:
    """Steps that take turns."""

    batch: ClipBatch
    limits: MatrixLimits
    work: dict[str, Work] = field(default_factory=dict)
    facts: dict[str, dict[str, float]] = field(default_factory=dict)
    _counted: dict[bool, float] = field(default_factory=dict)

    def add(self, name: str, networks: StepNetworks, *, distil: bool) -> TrainStep[Objective]:
        """Build and warm up a step; its options change no operations, so each kind is counted once.

        Raises:
            InputError: it cannot be built here.
        """
        device, rows = self.batch.clips.device, max(UCF101_ROWS, len(self.batch.sample_index))
        precision = networks.precision(device)
        if distil not in self._counted:
            self._counted[distil] = networks.count(self.batch, rows, distil=distil)
        before = memory_in_use(device)
        step = networks.build(self.batch, rows, distil=distil)
        step(self.batch)
        self.facts[name] = peak_memory(lambda: step(self.batch), before, device)
        self.work[name] = repeated(step, self.batch, options=networks.options)
        self.limits.add(name, precision, self._counted[distil])
        return step
