"""That something is learned: one short run with a fixed seed, far above chance in what the method promises."""

import json
from pathlib import Path

import pytest

from pclkd.sharding.packing.pack import pack_videos, plan_packing
from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset
from pclkd.training.loop.plan import plan_run
from pclkd.training.loop.trainer import train
from pclkd.training.settings import override, preset

pytestmark = pytest.mark.usefixtures("one_thread")


def test_half_a_minute_of_the_demo_learns_the_pretext_task_and_opens_the_embeddings(tmp_path: Path) -> None:
    rendered = SynthSettings(classes=4, groups=9, clips=2, height=60, width=80, seed=3)
    render_dataset(tmp_path, rendered, workers=2)
    plan = plan_packing(tmp_path / VIDEOS_FOLDER, tmp_path / LISTS_FOLDER, height=40, width=54)
    pack_videos(plan, tmp_path / "shards", workers=2)
    changes = ["epochs=40", "loader.batch_size=16", "evaluation.every=40", "backbone.width=0.125", "seed=1"]
    train(plan_run(tmp_path / "run", tmp_path / "shards", override(preset("demo"), changes)))
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first, *_, last = [record for record in records if record["kind"] == "epoch"]
    assert first["val/pretext_top1_pct"] < 35  # five classes
    assert last["val/pretext_top1_pct"] > 50
    assert last["train/embedding_spread"] > 0.3  # 0.04 and less where they collapse
