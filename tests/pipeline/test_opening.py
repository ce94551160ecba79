import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pclkd.pipeline import ClipConfig, LoaderSettings, UniformRecipe, World, clip_loader
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

EXAMPLE = """
import torch, torchvision
from pclkd.pipeline import clip_loader

model = torchvision.models.video.r3d_18(num_classes=5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with clip_loader("ucf101-shards", batch_size=8, crop=112, modality="rgb") as loader:
    for epoch in range(2):
        for batch in loader:  # clips [8, 3, 3, 16, 112, 112]; the middle clip shows one of 5 pretext classes
            loss = torch.nn.functional.cross_entropy(model(batch.clips[:, 1]), batch.pretext_label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
"""


def test_the_example_trains_somebody_elses_model(synthetic_shards: Path) -> None:
    """The README's lines, with small frames; the loss is one of a network that was told five classes."""
    lines = EXAMPLE.replace('"ucf101-shards"', repr(str(synthetic_shards))).replace("crop=112", "crop=32")
    names: dict[str, object] = {}
    exec(lines.replace("batch_size=8", "batch_size=4").replace("range(2)", "range(1)"), names)
    assert 0.1 < float(names["loss"].detach()) < 10
    assert names["loader"].statistics.clips == 12 * 3  # one epoch of the 12 training videos


def test_the_package_is_light_and_names_lead_to_their_modules() -> None:
    program = "import sys, pclkd.pipeline; print(sorted({'torch', 'numpy', 'nvidia.dali'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    package = importlib.import_module("pclkd.pipeline")
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="attribute clip_loadr"):
        package.clip_loadr  # noqa: B018


def test_settings_can_be_named_at_either_level(synthetic_shards: Path) -> None:
    config = ClipConfig(seed=5, loader=LoaderSettings(batch_size=2, crop=48))
    with clip_loader(synthetic_shards, config, part="test", threads=1, recipe=UniformRecipe(views=2)) as loader:
        assert (loader.settings.batch_size, loader.settings.crop, loader.settings.threads) == (2, 48, 1)
        assert loader.state_dict()["seed"] == 5 and not loader.state_dict()["shuffled"]
        assert next(iter(loader)).clips.shape == (2, 2, 3, 16, 48, 48)


def test_all_videos_whatever_the_split(synthetic_shards: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    with clip_loader(index, part="all", shuffle=False, crop=48, batch_size=5, recipe=UniformRecipe(views=1)) as loader:
        labels = [label for batch in loader for label in batch.label[: batch.valid].tolist()]
    assert labels == index.sample_label.tolist()


def test_chosen_videos_instead_of_a_part(synthetic_shards: Path) -> None:
    index, chosen = ShardIndex.open(synthetic_shards), np.array([7, 0, 12])
    assert len(set(index.sample_label[chosen].tolist())) > 1
    how = {"shuffle": False, "crop": 48, "batch_size": 3, "recipe": UniformRecipe(views=1)}
    with clip_loader(index, part="test", samples=chosen, **how) as loader:
        (batch,) = loader
    assert batch.label.tolist() == index.sample_label[chosen].tolist()


def test_a_wrong_setting_is_told_with_the_nearest(synthetic_shards: Path) -> None:
    with pytest.raises(InputError, match=r"no setting 'batchsize'.*batch_size"):
        clip_loader(synthetic_shards, batchsize=4)
    with pytest.raises(InputError, match=r"batch_size=0.*greater than or equal to 1"):
        clip_loader(synthetic_shards, batch_size=0)
    with pytest.raises(InputError, match=r"a recipe needs views, clip_frames, colours, plan"):
        clip_loader(synthetic_shards, recipe="tuples")
    with pytest.raises(InputError, match=r"part='validation'"):
        clip_loader(synthetic_shards, part="validation")
    with pytest.raises(InputError, match=r"fraction=0\.5 is a share of the train part, and part='all'.*leave out one"):
        clip_loader(synthetic_shards, part="all", fraction=0.5)


def test_torchrun_is_heard(synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    small = {"crop": 32, "batch_size": 2, "tuples": TupleSettings(clip_frames=8, clip_stride=12)}
    with (
        clip_loader(synthetic_shards, **small) as loader,
        clip_loader(synthetic_shards, world=World(), **small) as alone,
    ):
        assert len(loader) == 2 and len(alone) == 6
        own = next(iter(loader)).sample_index
        order = torch.cat([batch.sample_index for batch in alone])
        assert torch.equal(own, order[2:4])
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(InputError, match=r"RANK='first' in the environment is no number"):
        clip_loader(synthetic_shards, **small)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(InputError, match=r"RANK=3 in the environment is not within the 3 processes"):
        clip_loader(synthetic_shards, **small)


def test_the_readme_shows_these_lines() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    shown = [block for block in re.findall(r"```python\n(.*?)```", readme, re.S) if "clip_loader" in block]
    assert EXAMPLE.strip() in {block.strip() for block in shown}
