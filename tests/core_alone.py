"""A process in which nothing can be imported that the core does not ask for: all helps, and the whole way once.

test_supply.py runs it in an empty folder.
"""

import configparser
import sys
import traceback
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

config = configparser.ConfigParser()
config.read(Path(__file__).resolve().parents[1] / "setup.cfg")
asked = config["options"]["install_requires"].split("\n")
found: set[str] = set()
while asked:
    requirement = Requirement(line) if (line := asked.pop()) else None
    if requirement is None or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
        continue
    name = canonicalize_name(requirement.name)
    if name not in found:
        found.add(name)
        try:
            asked += metadata.requires(name) or ()
        except metadata.PackageNotFoundError:  # DALI's other build is there
            continue
tops = metadata.packages_distributions()
blocked = {top for top, owners in tops.items() if not {canonicalize_name(owner) for owner in owners} & found}
blocked |= {"ray", "s3fs", "gcsfs", "onnx", "onnxruntime", "onnxscript", "decord", "torchcodec"}
blocked -= {"pclkd", "packaging", "_distutils_hack"}


class Hiding:
    """A finder that does not find those."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = map(Hiding, sys.meta_path)
from click.testing import CliRunner  # noqa: E402

from pclkd.benchmarks.cli import main as bench  # noqa: E402
from pclkd.sharding.cli import main as shard  # noqa: E402
from pclkd.training.cli import main as train  # noqa: E402


def run(program, *arguments):
    done = CliRunner().invoke(program, arguments)
    if done.exit_code or done.exception:
        traceback.print_exception(*done.exc_info)
        sys.exit(f"{arguments}: {done.output}")
    return done.output


for program in (bench, shard, train):
    for command in program.commands:
        assert "Usage:" in run(program, command, "--help")
run(shard, "synth", "s", "--classes=2", "--groups=3", "--clips=1", "--frames=40", "--size=32x44", "--workers=1")
run(shard, "pack", "s/UCF-101", "shards", "--splits=s/ucfTrainTestlist", "--size=32x44", "--workers=1")
run(shard, "info", "shards")
small = ("backbone.width=0.125", "loader.batch_size=2", "tuples.clip_stride=1", "tuples.remote_distance=1")
sets = [f"--set={one}" for one in (*small, "optimizer.warmup_epochs=0", "evaluation.features_every=9")]
run(train, "pretrain", "--data=shards", "--out=run", "--preset=demo", "--epochs=1", *sets)
run(train, "evaluate", "run", "--data=shards", "--protocol=linear", "--clips=1")
run(train, "report", "run")
for program, arguments, extra in (
    (shard, ["pack", "s3://bucket/x", "out"], "pclkd[s3]"),
    (shard, ["pack", "gs://bucket/x", "out"], "pclkd[gcs]"),
    (shard, ["pack", "s/UCF-101", "out", "--splits=s/ucfTrainTestlist", "--engine=ray"], "pclkd[ray]"),
    (train, ["export", "run", "out", "--onnx", "--data=shards"], "pclkd[onnx]"),
):
    done = CliRunner().invoke(program, arguments)
    line = done.stderr.strip().splitlines()[-1]
    assert done.exit_code == 2 and line.startswith("error: ") and extra in line, (arguments, done.output)
    assert not Path("out").exists(), arguments
print(len(blocked), "modules were missing")
