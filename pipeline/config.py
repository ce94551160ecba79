"""All settings of the data: what is delivered, and how. A clip loader and a whole run share them."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator

from pclkd.pipeline.clips.augment import AugmentSettings
from pclkd.pipeline.clips.fraction import balanced_fraction
from pclkd.pipeline.clips.recipe import Recipe, TupleRecipe
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.pretext.registry import PretextSettings
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.settings import Settings, change, first_fault, nearest
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["ClipConfig", "DataSettings", "Decode", "LoaderSettings", "Operators", "PixelPath", "changed"]


Decode = Literal["auto", "cpu", "mixed"]
Operators = Literal["auto", "kernels", "dali"]


class PixelPath(NamedTuple):
    """How frames become clips. Two paths differ by a level here and there, so a run keeps to one.

    Attributes:
        decode: as `LoaderSettings.decode`.
        operators: as `LoaderSettings.operators`; "auto" where there is no choice, on a CPU.
    """

    decode: Decode = "auto"
    operators: Operators = "auto"

    @property
    def changes(self) -> dict[str, str]:
        """The settings that ask for it."""
        return {f"loader.{name}": value for name, value in self._asdict().items()}

    def over(self, other: "PixelPath") -> "PixelPath":
        """This one, and the other wherever this one is "auto"."""
        return PixelPath(*(b if a == "auto" else a for a, b in zip(self, other, strict=True)))  # type: ignore[arg-type]


class LoaderSettings(Settings):
    """How clips are cropped, delivered and prefetched."""

    batch_size: int = Field(default=16, ge=1, le=2**16)
    """Samples a step and process."""
    crop: int = Field(default=112, ge=16, le=4096, multiple_of=2)
    """Height and width of a clip, in pixels."""
    modality: Literal["residual", "rgb"] = "residual"
    """residual: each frame minus its predecessor, as the published code's default; rgb: the frames themselves."""
    decode: Decode = "auto"
    """Where JPEGs are decoded; auto times both at start-up where there is a GPU, once for a run."""
    operators: Operators = "auto"
    """What flips, colours, blurs and normalises on a GPU; auto: kernels where they run and are right, else DALI."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Threads that read and that decode, each; 0 takes one a core, divided by the processes of this machine."""
    prefetch: int = Field(default=2, ge=1, le=1024)
    """Batches kept ready."""
    quarantine_limit_pct: float = Field(default=1.0, ge=0, le=100)
    """Share of an epoch's samples, in percent, that may be damaged before the run stops; 100 never stops."""
    wait_limit_s: float = Field(default=300.0, gt=0, le=1e6)
    """Seconds to wait for one batch before the run stops and tells what it waited for."""
    storage_limit_s: float = Field(default=120.0, gt=0, le=1e6)
    """Seconds to try again, ever more slowly, when an object store fails, before the run stops."""
    cache_dir: Path | None = None
    """Folder for pieces of remote shards; by default $PCLKD_CACHE or ~/.cache/pclkd."""
    cache_gib: float = Field(default=10.0, ge=0, le=2**20)
    """Room for pieces of remote shards, in GiB, the longest unused go first; 0 keeps none."""

    @property
    def path(self) -> PixelPath:
        """How frames are asked to become clips."""
        return PixelPath(self.decode, self.operators)


class DataSettings(Settings):
    """Which clips of which videos, and how they are delivered: the settings that a run and its loaders share."""

    split: int = Field(default=1, ge=1)
    """Official split of the shard set: its train part is learned from, its test part measured on."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Keys every random number: order, clips, augmentation, pretext, replacements; a run's weights and negatives."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the train part that is learned from, in every class alike; a larger one contains a smaller one's
    videos. Evaluations still use all of it."""
    fraction_seed: int = Field(default=0, ge=0, lt=2**63)
    """Which videos those are: the same for a teacher and its students, whatever their seeds."""
    tuples: TupleSettings = TupleSettings()
    """Where the three clips of a sample lie."""
    augment: AugmentSettings | None = AugmentSettings()
    """Random transforms, None for the centre crop."""
    pretext: PretextSettings = PretextSettings()
    """What is asked about the three clips."""
    loader: LoaderSettings = LoaderSettings()
    """Shapes, prefetching, limits."""

    def train_samples(self, index: ShardIndex) -> NDArray[np.int64]:
        """The samples that are learned from, ascending, int64 [n].

        Raises:
            InputError: there is no such split, or its train part is empty.
        """
        samples = index.split_samples(self.split, "train")
        if self.fraction == 1:
            return samples
        return balanced_fraction(samples, index.sample_label[samples], self.fraction, self.fraction_seed)

    def tuple_recipe(self) -> TupleRecipe:
        """PCL tuples with the pretext task.

        Raises:
            InputError: the pretext task cannot take such clips apart.
        """
        return TupleRecipe(self.seed, self.tuples, self.augment, self.pretext.build())


class ClipConfig(DataSettings):
    """What `clip_loader` delivers: which samples, which clips of them, and how."""

    part: Literal["train", "test", "all"] = "train"
    """Part of the split; all: every packed video, whatever the split."""
    shuffle: bool | None = None
    """Training order: shuffled, whole batches, damaged samples replaced. By default for all parts but "test"."""
    recipe: Any = None
    """Any Recipe: decides the clips of a sample, instead of tuples, augment and pretext."""

    @field_validator("recipe")
    @classmethod
    def _check_recipe(cls, recipe: Any) -> Any:
        lacking = [name for name in ("views", "clip_frames", "colours", "plan") if not hasattr(recipe, name)]
        if recipe is not None and lacking:
            raise ValueError(f"a recipe needs {', '.join(lacking)}; {type(recipe).__name__} has none")
        return recipe

    @property
    def shuffled(self) -> bool:
        """Whether the loader trains."""
        return self.part != "test" if self.shuffle is None else self.shuffle

    def chosen_recipe(self) -> Recipe:
        """The recipe that is given, or PCL tuples."""
        if self.recipe is not None:
            recipe: Recipe = self.recipe
            return recipe
        return self.tuple_recipe()


def changed(config: DataSettings, changes: dict[str, Any]) -> ClipConfig:
    """`config` as a loader takes it, with fields of it, or of its `loader`, replaced.

    Raises:
        InputError: an unknown name, the nearest one is told; or a value that is not allowed.
    """
    # The loader's first: a name that both have is the configuration's own.
    paths = {name: f"loader.{name}" for name in LoaderSettings.model_fields}
    paths |= {name: name for name in ClipConfig.model_fields}
    for name in changes:
        if name not in paths:
            raise InputError(f"a clip loader has no setting {name!r}", remedy=f"did you mean {nearest(name, paths)}?")
    config = ClipConfig.model_validate(config, from_attributes=True)  # of a whole run's settings, those that it shares
    try:
        return change(config, {paths[name]: value for name, value in changes.items()})
    except ValidationError as error:
        path, value, fault = first_fault(error)
        raise InputError(
            f"clip loader setting {path.removeprefix('loader.')}={value!r}: {fault}", remedy="give an allowed value"
        ) from None
