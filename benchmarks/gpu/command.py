"""`bench-throughput gpu`, and the command that it gives each section's process."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pclkd.benchmarks.gpu.sections import SECTIONS, carried_out
from pclkd.benchmarks.measuring.places import absolute
from pclkd.benchmarks.options import PATH
from pclkd.training.options import Finite

if TYPE_CHECKING:
    from pclkd.benchmarks.gpu.rows import Row

__all__ = ["find_section", "prove"]

_NAMES = [section.name for section in SECTIONS]
_FAILED = 1


@click.command("gpu")
@click.option("--minutes", type=Finite(min=0, min_open=True), default=9.0, show_default=True, help="For everything.")
@click.option("--out", type=PATH, required=True, help="Folder for rows, summary, pictures, profile and log.")
@click.option("--data", default=None, help="Shard set of shard-ucf101 pack, or its URL.  [default: a rendered one]")
@click.option("--only", type=click.Choice(_NAMES), multiple=True, help="A section; again for more.  [default: all]")
@click.option("--dry-run", is_flag=True, help="Every row with tiny sizes, on any machine; figures mean nothing.")
@click.pass_context
def prove(
    ctx: click.Context, minutes: float, out: Path, data: str | None, only: tuple[str, ...], dry_run: bool
) -> None:
    """Whether this GPU computes rightly and how fast it is, within --minutes; each finding is written at once.

    Environment, matrix products, convolutions and gradients; pixels beside the CPU's, losses of bf16 beside fp32, a
    stopped run beside one that was not; frames a second of the loader, samples a second of the step by option and
    batch, its kernels, training end to end, and distillation for the time that is left. Where DALI or PyAV is
    missing, the step and its arithmetic alone. Exit code 1: a row failed; the others are there.
    """
    from pclkd.benchmarks.gpu.run import SUMMARY_NAME, GpuBenchmark
    from pclkd.sharding.shards.index import ShardIndex

    if data is not None:
        ShardIndex.open(data)  # whatever is wrong with it is told before minutes of measuring
        data = absolute(data)

    def on_section(name: str, rows: "list[Row]") -> None:
        states = [row.state for row in rows]
        told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        click.echo(f"{name}: {told}", err=True)
        for row in rows:
            if row.error:
                click.echo(f"  {row.path}: {row.state}: {row.error}", err=True)

    # Ended politely, it takes its processes and folders with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rows = GpuBenchmark(minutes, out.resolve(), data, only, dry_run).run(on_section)
    click.echo((out / SUMMARY_NAME).read_text(), nl=False)
    if any(row.state == "failed" for row in rows.values()):
        ctx.exit(_FAILED)


@click.command("gpu-section", hidden=True)
@click.argument("name", type=click.Choice(_NAMES))
@click.option("--out", type=PATH, required=True)
@click.option("--scratch", type=PATH, required=True)
@click.option("--until", type=float, required=True)
@click.option("--data", default=None)
@click.option("--dry-run", is_flag=True)
def find_section(name: str, out: Path, scratch: Path, until: float, data: str | None, dry_run: bool) -> None:
    """The rows of one section, in this process."""
    import torch

    if dry_run and not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is there: so kernels run on any machine

    from pclkd.benchmarks.gpu.bench import FULL, TINY, Bench
    from pclkd.benchmarks.gpu.rows import ROWS_NAME, Rows

    if dry_run:
        torch.compiler.set_stance("force_eager")  # compiling takes minutes, and is the compiler's own matter
    rows = Rows(out / ROWS_NAME, name, until, gpu=torch.cuda.is_available())
    section = next(section for section in SECTIONS if section.name == name)
    carried_out(section, Bench(rows, TINY if dry_run else FULL, out, scratch, data))
