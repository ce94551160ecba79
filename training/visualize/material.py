"""What the parts of a visualisation are made of: networks and what they say of the videos; measured when asked."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import torch

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.settings import change
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.compute.distributed import choose_device
from pclkd.training.evaluation.evaluator import Evaluator, VideoFeatures
from pclkd.training.evaluation.probes import LinearProbe, fit_linear_probe
from pclkd.training.exchange.trained_backbone import load_backbone
from pclkd.training.models.base import Backbone
from pclkd.training.models.memory_layout import placed
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.runs.checkpoint import build_model, load_checkpoint, load_model
from pclkd.training.runs.heads import heads_file
from pclkd.training.runs.run_folder import SETTINGS_NAME, read_run
from pclkd.training.visualize.layers import FEATURES, LayerFeatures

__all__ = ["Layers", "Material"]

Layers = dict[str, torch.Tensor]
"""[N, C] by layer, of the test videos."""
_FEWEST = 4  # videos, below which similarity means nothing


class Material:
    """A run's network, what it came from, and the videos that it is asked about.

    Args:
        run: run folder or checkpoint.
        data: the shard set.
        clips: clips a video whose features are averaged.
        teachers: networks to compare with; by default those that taught the run.
        teacher_key: which network of several in their files, as `load_backbone` takes it.

    Attributes:
        samples: [N] the test videos, as the shard set numbers them.
        train_samples: the same of the training videos.
        missing: teachers of the run that are not there any more.

    Raises:
        InputError: no checkpoint, data that does not fit or has no labels, fewer than four test videos, or no such
            teacher.
    """

    def __init__(
        self, run: Path, data: str | Path, clips: int, teachers: tuple[Path, ...] = (), teacher_key: str = ""
    ) -> None:
        self.run, self.folder, self.clips = run, run if run.is_dir() else run.parent, clips
        self.checkpoint = load_checkpoint(run)
        self.device = choose_device()
        self.settings = change(self.checkpoint.settings, self.checkpoint.path_on(self.device).changes)
        self.index = ShardIndex.open(data)
        self.index.require_labels("drawing what was learned")
        self.samples = self.index.split_samples(self.settings.split, "test")
        self.train_samples = self.index.split_samples(self.settings.split, "train")
        if len(self.samples) < _FEWEST:
            raise InputError(
                f"{data} has {len(self.samples)} test video(s) in split {self.settings.split}",
                remedy=f"give a shard set with at least {_FEWEST}",
            )
        self.classes = self.index.classes
        self.model = placed(load_model(self.checkpoint, run), self.device, self.settings.layout).eval()
        self.evaluator = Evaluator(self.index, self.settings, self.device, clips)
        found = [(teacher, self._found(teacher)) for teacher in teachers or self._own_teachers()]
        self.missing = [teacher for teacher, path in found if path is None]
        self._teachers, self._teacher_key = [path for _, path in found if path is not None], teacher_key
        if teachers and self.missing:
            raise InputError(f"no teacher at {self.missing[0]}", remedy="give a run folder, or a file of weights")

    @cached_property
    def train(self) -> VideoFeatures:
        """Features of the training videos."""
        return self.evaluator.features(self.model, "train")

    @cached_property
    def test(self) -> VideoFeatures:
        """Features of the test videos."""
        features, videos = self._own
        return VideoFeatures(features[FEATURES], videos.labels, videos.rows)

    @property
    def layers(self) -> Layers:
        """What every layer says of the test videos, and what the projector makes of it."""
        return self._own[0]

    @cached_property
    def _own(self) -> tuple[Layers, VideoFeatures]:
        return self._describe(self.model.base_network, self.model.projector)

    @cached_property
    def probe(self) -> LinearProbe:
        """The linear probe of the training videos."""
        return fit_linear_probe(self.train.features, self.train.labels, classes=len(self.classes))

    @cached_property
    def untrained(self) -> Layers:
        """What the network said before the run: the weights of its seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            fresh = placed(build_model(self.settings), self.device, self.settings.layout)
        return self._layers_of(fresh)

    @cached_property
    def taught_by(self) -> dict[str, Layers]:
        """What every layer of each teacher says, by its name."""
        found: dict[str, Layers] = {}
        for path in self._teachers:
            backbone = placed(load_backbone(path, self._teacher_key), self.device, self.settings.layout)
            found[str(path) if path.name in found else path.name] = self._describe(backbone)[0]
        return found

    def epochs(self) -> Iterator[tuple[int, Layers]]:
        """Epochs whose networks are at hand, with what they say: the first weights, kept checkpoints, the run's own."""
        yield 0, self.untrained
        for path in sorted(self.folder.glob("epoch-*.pt")):
            number = re.fullmatch(r"epoch-(\d+)\.pt", path.name)
            if number and 0 < int(number[1]) < self.checkpoint.epoch:
                kept = load_model(load_checkpoint(path), path)
                yield int(number[1]), self._layers_of(placed(kept, self.device, self.settings.layout))
        if self.checkpoint.epoch:
            yield self.checkpoint.epoch, self.layers

    def key(self, row: int) -> str:
        """Name of a test video by its row."""
        return self.index.key(int(self.samples[row]))

    def close(self) -> None:
        """Close the loaders."""
        self.evaluator.close()

    def _layers_of(self, model: PclModel) -> Layers:
        return self._describe(model.base_network, model.projector)[0]

    def _describe(self, backbone: Backbone, projector: torch.nn.Module | None = None) -> tuple[Layers, VideoFeatures]:
        network = LayerFeatures(backbone, projector).eval()
        videos = self.evaluator.features(network, "test")
        return network.by_layer(videos.features), videos

    def _own_teachers(self) -> tuple[Path, ...]:
        if not (self.folder / SETTINGS_NAME).is_file():
            return ()
        return tuple(Path(teacher) for teacher in read_run(self.folder).settings.get("teachers") or ())

    def _found(self, teacher: Path) -> Path | None:
        """Where a teacher is: where it was, or beside the run, if the folder of both was moved."""
        places = (teacher, self.folder.absolute().parent / teacher.name)
        # Networks of other libraries, and heads on them, have no layers under names that are known here.
        return next((p for p in places if p.exists() and heads_file(p) is None), None)
