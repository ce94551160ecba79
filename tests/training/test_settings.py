import re

import pytest
from pydantic import ValidationError

from pclkd.pipeline.clips.augment import AugmentSettings
from pclkd.pipeline.config import ClipConfig, changed
from pclkd.sharding.common.errors import InputError
from pclkd.training.settings import PRESETS, RunSettings, describe, override, preset


def test_the_pcl_preset_has_the_published_values() -> None:
    s = preset("pcl")
    assert (s.tuples.clip_frames, s.loader.crop, s.tuples.clip_stride - s.tuples.clip_frames) == (16, 112, 8)
    assert s.loader.modality == "residual" and s.loader.batch_size == 16 and s.epochs == 100
    assert (s.optimizer.lr, s.optimizer.momentum, s.optimizer.weight_decay) == (0.01, 0.9, 5e-4)
    assert (s.optimizer.schedule, s.optimizer.patience) == ("plateau", 50)
    assert (s.pcl.negatives, s.pcl.nce_temperature, s.pcl.bank_momentum, s.pcl.contrast_weight) == (
        1024,
        0.07,
        0.5,
        0.5,
    )
    assert (s.augment.brightness, s.augment.contrast, s.augment.saturation, s.augment.hue) == (0.4, 0.4, 0.4, 0.1)


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_valid_and_survive_json(name: str) -> None:
    settings = preset(name)
    assert RunSettings.model_validate_json(settings.model_dump_json()) == settings


def test_a_loader_takes_from_a_run_what_they_share() -> None:
    run = override(preset("demo"), ["split=2", "seed=7", "pretext.task=order", "augment.hue=0.2", "loader.prefetch=3"])
    shown = changed(run, {"part": "test", "augment": None, "crop": 64, "seed": 8})
    assert shown == ClipConfig.model_validate(
        {
            "split": 2,
            "seed": 8,
            "part": "test",
            "augment": None,
            "tuples": {"clip_frames": 8, "clip_stride": 12, "remote_distance": 16},
            "pretext": {"task": "order"},
            "loader": {"crop": 64, "batch_size": 32, "prefetch": 3},
        }
    )
    assert (run.seed, run.loader.crop, run.augment) == (7, 32, AugmentSettings(blur_sigma=(0.1, 1.0), hue=0.2))
    with pytest.raises(ValidationError, match="augment"):
        RunSettings.model_validate({"augment": None})


def test_overrides_reach_nested_fields_and_nothing_else() -> None:
    changed = override(
        preset("pcl"), ["optimizer.lr=0.5", "backbone.name=c3d", "augment.blur_sigma=[0.2,1.5]", "epochs=3"]
    )
    assert changed.optimizer.lr == 0.5 and changed.backbone.name == "c3d" and changed.epochs == 3
    assert changed.augment.blur_sigma == (0.2, 1.5)
    assert override(
        changed, ["optimizer.lr=0.01", "backbone.name=r3d", "augment.blur_sigma=[0.1,2.0]", "epochs=100"]
    ) == preset("pcl")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimizer.lrr=1", "did you mean optimizer.lr"),
        ("bogus", "not an assignment"),
        ("optimizer=1", "did you mean"),
        ("optimizer.lr=-1", "optimizer.lr"),
        ("loader.modality=flow", "residual"),
        ("loader.batch_size=many", "Samples a step"),
    ],
)
def test_wrong_overrides_name_the_setting_and_the_remedy(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        override(preset("pcl"), [assignment])


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="pcl, pcl-published, kd, demo"):
        preset("tiny")


def test_every_setting_is_described_and_can_be_set_as_printed() -> None:
    lines = describe(preset("demo")).splitlines()
    assert len(lines) > 30
    for line in lines:
        assignment, _, text = line.partition("  # ")
        assert len(text.strip()) > 3, line
        name, value = assignment.strip().split(" = ")
        assert override(preset("demo"), [f"{name}={value}"]) == preset("demo")


def test_the_published_preset_differs_from_the_intent_by_spacing_epochs_and_test_clips() -> None:
    intent, published = preset("pcl").model_dump(), preset("pcl-published").model_dump()
    assert {name for name in intent if intent[name] != published[name]} == {"tuples", "pcl", "epochs", "evaluation"}
    assert (intent["pcl"]["forwards"], published["pcl"]["forwards"]) == ("joint", "each")
    assert (intent["tuples"]["clip_stride"], published["tuples"]["clip_stride"]) == (24, 11)
    expected = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "plateau", "patience": 50, "name": "sgd"}
    assert expected.items() <= published["optimizer"].items()
    assert published["loader"]["batch_size"] == 16 and published["epochs"] == 200
