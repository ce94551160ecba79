"""The class is told by motion alone: no single frame predicts it, the change over time does."""

import numpy as np
import pytest

from pclkd.sharding.synth.actions import ACTIONS, Track, draw_track
from pclkd.sharding.synth.render import render_clip
from pclkd.sharding.synth.scene import draw_scene

NAMES = list(ACTIONS)[:8]
CHANCE = 1 / 8


def generator(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def nearest(known: np.ndarray, labels: np.ndarray, asked: np.ndarray, k: int) -> np.ndarray:
    """Vote of the k nearest neighbours."""
    distance = ((known[None] - asked[:, None]) ** 2).sum(-1)
    closest = np.argpartition(distance, k, axis=1)[:, :k]
    return np.array([np.bincount(labels[row], minlength=len(NAMES)).argmax() for row in closest])


def standard(features: list[list[float]]) -> np.ndarray:
    values = np.array(features, dtype=float)
    return (values - values.mean(0)) / (values.std(0) + 1e-9)


def test_even_the_exact_pose_in_one_frame_does_not_tell_the_action() -> None:
    poses, labels = [], []
    for draw in range(700):
        for label, name in enumerate(NAMES):
            track = draw_track(name, 64, generator(5, draw))
            angle = track.angle[31]
            sizes = [np.log(track.along[31]), np.log(track.across[31])]
            shadow = [track.foot - track.y[31], track.reach]
            poses.append([track.x[31], track.y[31], np.sin(angle), np.cos(angle), *sizes, *shadow])
            labels.append(label)
    features, answers = standard(poses), np.array(labels)
    half = len(answers) * 3 // 4
    guessed = nearest(features[:half], answers[:half], features[half:], 25)
    assert (guessed == answers[half:]).mean() < CHANCE + 0.09


@pytest.fixture(scope="module")
def clips() -> list[tuple[int, int, np.ndarray]]:
    """Group, label and grey frames of 192 clips, float32 [64, 64, 86]."""
    made = []
    for group in range(6):
        scene = draw_scene(64, 86, generator(1, group))
        for label, name in enumerate(NAMES):
            for clip in range(4):
                frames = render_clip(scene, draw_track(name, 64, generator(1, group, clip)), 64, 86)
                made.append((group, label, np.stack(list(frames)).mean(-1, dtype=np.float32)))
    return made


def accuracy_on_new_groups(clips: list, features: list[list[float]]) -> float:
    groups = np.array([group for group, _, _ in clips])
    labels = np.array([label for _, label, _ in clips])
    values = standard(features)
    right = 0
    for group in range(6):
        new = groups == group
        right += int((nearest(values[~new], labels[~new], values[new], 5) == labels[new]).sum())
    return right / len(labels)


def test_the_look_of_a_frame_does_not_tell_the_action(clips) -> None:
    looks = [frames[30, :64, :80].reshape(8, 8, 8, 10).mean((1, 3)).ravel().tolist() for _, _, frames in clips]
    # 192 answers: four standard deviations of guessing are 0.095.
    assert accuracy_on_new_groups(clips, looks) < CHANCE + 0.10


def test_frame_differences_over_time_tell_the_action(clips) -> None:
    y, x = np.mgrid[:64, :86]
    features = []
    for _, _, frames in clips:
        change = np.maximum(np.abs(np.diff(frames, axis=0)) - 12, 0)
        energy = change.sum((1, 2))
        weight = change / (energy[:, None, None] + 1e-3)
        middle_x, middle_y = (weight * x).sum((1, 2)), (weight * y).sum((1, 2))
        wide = np.sqrt((weight * (x - middle_x[:, None, None]) ** 2).sum((1, 2)))
        high = np.sqrt((weight * (y - middle_y[:, None, None]) ** 2).sum((1, 2)))
        features.append(
            [
                middle_x.std(),
                middle_y.std(),
                np.abs(np.diff(middle_x)).mean(),
                np.abs(np.diff(middle_y)).mean(),
                wide.std(),
                high.std(),
                np.corrcoef(wide, high)[0, 1],
                np.corrcoef(middle_x, middle_y)[0, 1],
                np.log(energy.mean() + 1),
                energy.std() / energy.mean(),
            ]
        )
    assert accuracy_on_new_groups(clips, features) > 0.4


def test_nothing_but_the_action_differs_between_clips_of_one_draw() -> None:
    for seed in range(20):
        tracks = [draw_track(name, 64, generator(seed)) for name in ACTIONS]
        for track in tracks[1:]:
            for part in ("pan", "scale", "light", "sway_x", "sway_y", "foot", "reach"):
                assert np.array_equal(getattr(track, part), getattr(tracks[0], part))


def test_an_action_begins_and_ends_slowly() -> None:
    for seed in range(20):
        turned = np.abs(np.diff(draw_track("Rotate", 108, generator(seed)).angle))
        full = np.median(turned[30:78])
        assert turned[:3].mean() < 0.5 * full and turned[-3:].mean() < 0.5 * full


def test_two_moments_of_a_video_differ_by_more_than_the_phase_of_the_action() -> None:
    """Where the camera is, how near, and in what light: each goes one way, so that distance in time is seen."""
    for seed in range(20):
        track = draw_track("Rotate", 108, generator(seed))
        warmth = np.log(track.light[:, 0] / track.light[:, 2])
        for way, least in ((track.pan, 0.08), (np.log(track.scale), 0.2), (warmth, 0.25)):
            assert np.all(np.diff(way) > 0) or np.all(np.diff(way) < 0)
            assert abs(way[70] - way[30]) > least


def test_each_action_moves_what_its_name_says() -> None:
    def spread(values: np.ndarray) -> float:
        return float(values.max() - values.min())

    def moved(track: Track) -> set[str]:
        size = track.along * track.across
        shape = track.along / track.across
        parts = {"x": track.x, "y": track.y, "angle": track.angle, "size": np.log(size), "shape": np.log(shape)}
        return {name for name, values in parts.items() if spread(values) > 0.02}

    expected = {
        "TranslateHorizontal": {"x"},
        "TranslateVertical": {"y"},
        "Rotate": {"angle"},
        "Rock": {"angle"},
        "Zoom": {"size"},
        "Squeeze": {"shape"},
        "Pendulum": {"x", "y", "angle"},
        "Bounce": {"y"},
        "Shake": {"x", "y"},
        "Orbit": {"x", "y"},
    }
    for seed in range(20):
        assert {name: moved(draw_track(name, 64, generator(seed))) for name in ACTIONS} == expected


def test_motion_is_fast_enough_that_a_swap_of_chunks_is_seen() -> None:
    for label, name in enumerate(ACTIONS):
        for seed in range(20):
            track = draw_track(name, 64, generator(seed, label))
            pose = np.stack([track.x, track.y, 0.2 * track.angle, track.along, track.across], axis=1)
            # Two frames 8 apart: the distance that a swap of neighbouring 4-frame chunks puts between neighbours.
            apart = np.linalg.norm(pose[8:] - pose[:-8], axis=1)
            assert apart.mean() > 0.02, (name, seed)


def test_the_view_has_an_up_and_a_down() -> None:
    """Light comes from above in every landscape: a turned frame can be told."""
    for seed in range(20):
        landscape = draw_scene(64, 86, generator(seed)).landscape.astype(float)
        third = len(landscape) // 3
        assert landscape[:third].mean() > landscape[-third:].mean() + 30


def test_a_turn_of_the_object_is_seen() -> None:
    """A disc without a mark would hide a rotation: every object must differ from itself turned."""
    for seed in range(40):
        sprite = draw_scene(64, 86, generator(seed)).sprite.astype(float)
        for quarter in (1, 2, 3):
            assert np.abs(sprite - np.rot90(sprite, quarter)).mean() > 4.0
