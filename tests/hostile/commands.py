"""The whole command line of all three tools: any command and option, hostile values, nothing that runs for long."""

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import click
from cases import NAMES, NUMBERS, TEXTS, Target
from hypothesis import strategies as st
from material import make_run, make_study
from promise import commanded
from sets import sound_set
from weights import sound_checkpoint

__all__ = ["TARGETS"]

# What a value may be replaced by: places of the scratch folder that are there, of every kind.
_PLACES = (
    "set",
    "runs",
    "runs/run",
    "study",
    "empty",
    "file",
    "nothing/there",
    "weights.pt",
    "set/manifest.json",
    "link",
)
_SETS = (
    "optimizer.lr=0",
    "pcl.own_terms.x=1",
    "loader.batch_size=99999",
    "backbone.name=..",
    "kd=1",
    "epochs=-1",
    "seed=1e9",
    "pretext.strides=[9]",
    "tuples.clip_frames=1025",
    "=",
    "a",
    "augment.blur_sigma=[1,1e9]",
)
# Commands that render, train or measure for seconds when all is well: they get one value that is not.
_LONG = {
    "synth",
    "pretrain",
    "distill",
    "demo",
    "study",
    "controls",
    "load",
    "peers",
    "scale",
    "shard",
    "step",
    "teacher",
    "train",
    "all",
    "gpu",
    "gpu-section",
    "latency",
    "evaluate",
    "visualize",
    "preview",
    "models",
    "export",
}


def _tools() -> dict[str, click.Group]:
    from pclkd.benchmarks.cli import main as bench
    from pclkd.sharding.cli import main as shard
    from pclkd.training.cli import main as train

    return {"shard-ucf101": shard, "train-kd": train, "bench-throughput": bench}


def _value(draw: st.DrawFn, option: click.Parameter) -> str:
    if draw(st.booleans()):
        return draw(st.sampled_from(_PLACES))
    if "assignments" in (option.name or ""):
        return draw(st.sampled_from(_SETS))
    return draw(st.one_of(NAMES, TEXTS, NUMBERS.map(str)))


_STARTS_PROCESSES = {"doctor"}  # as it should: an exchange between two is one of its checks


@st.composite
def _lines(draw: st.DrawFn) -> dict[str, Any]:
    tools = _tools()
    tool = draw(st.sampled_from(sorted(tools)))
    name = draw(st.sampled_from(sorted({*tools[tool].commands} - _STARTS_PROCESSES)))
    command = tools[tool].commands[name]
    arguments: list[str] = [name]
    for option in command.params:
        if isinstance(option, click.Argument):
            arguments.append(_value(draw, option))
        elif option.required or draw(st.integers(0, 4)) == 0:
            flag = draw(st.sampled_from(option.opts))
            arguments += [flag] if getattr(option, "is_flag", False) else [flag, _value(draw, option)]
    if draw(st.integers(0, 7)) == 0:
        arguments.insert(draw(st.integers(0, len(arguments))), draw(NAMES))
    if draw(st.integers(0, 7)) == 0:
        del arguments[draw(st.integers(0, len(arguments) - 1))]
    return {"tool": tool, "arguments": arguments}


def _tame(command: str, arguments: list[str]) -> list[str]:
    """The same, but that what takes long cannot begin, and that no cluster and no user's module is asked for."""
    kept = [word for word in arguments if word not in ("--import", "ray", "--ray-address", "--engine")]
    if command in _LONG:
        kept = [re.sub(r"^(set|study|runs|runs/run|weights.pt)$", "file", word) for word in kept]
        kept += {"synth": ["--classes", "0"], "demo": ["--videos", "nothing/there", "--splits", "file"]}.get(
            command, []
        )
        if command in ("step", "teacher", "all", "gpu", "gpu-section", "load", "models", "scale", "train"):
            kept += ["--width", "nan"]
    return kept


def _check(case: dict[str, Any], folder: Path) -> None:
    for name in ("empty", "runs", "study"):
        (folder / name).mkdir()
    (folder / "file").write_bytes(b"\x00\xff file")
    (folder / "link").symlink_to("/dev/zero")
    (folder / "weights.pt").write_bytes(sound_checkpoint()[:5000])
    make_run(folder / "runs")
    make_study(folder / "study")
    shutil.copytree(sound_set(), folder / "set")
    # No argument of a process can hold a zero byte, or half of a surrogate pair.
    words = [word.replace("\0", "").encode("utf-8", "replace").decode() for word in case["arguments"]]
    command = next((word for word in words if word in _tools()[case["tool"]].commands), "")
    with contextlib.chdir(folder):
        os.environ["PCLKD_CACHE"] = str(folder / "cache")
        commanded(_tools()[case["tool"]], _tame(command, words), folder)


TARGETS = (Target("commands", _lines(), _check, 50),)
