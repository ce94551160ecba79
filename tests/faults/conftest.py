"""The warm process that commands are forked from, what they work on, and the seed in every failure."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from disturbance import SEED
from victims import training
from zygote import Zygote


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    started = Zygote(tmp_path_factory.mktemp("zygote") / "zygote")
    yield started
    started.close()


@pytest.fixture(autouse=True)
def _the_seed_is_told(request: pytest.FixtureRequest) -> None:
    print(f"PCLKD_FAULT_SEED={SEED} {request.node.nodeid}")


@pytest.fixture(scope="session")
def shards(synthetic_videos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 rendered videos, two a shard, 32x43. Read-only: copy it before damaging it."""
    from pclkd.sharding.packing.pack import pack_videos, plan_packing

    out = tmp_path_factory.mktemp("faulty") / "shards"
    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, height=32, width=43, videos_per_shard=2)
    pack_videos(plan, out, workers=1)
    return out


@pytest.fixture(scope="session")
def run(shards: Path, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on those shards."""
    out = tmp_path_factory.mktemp("finished") / "run"
    started = zygote.start("train-kd", training(shards).command(out))
    assert started.wait() == 0, started.said()
    return out
