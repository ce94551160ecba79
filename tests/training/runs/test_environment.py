import json
import os
import platform
import subprocess
import sys

import torch

from pclkd.training.runs.environment import describe_environment


def test_versions_and_machine_agree_with_their_own_sources():
    told = describe_environment()
    assert told["python"] == platform.python_version()
    assert str(torch.__version__).startswith(str(told["torch"]))
    assert told["cores"] == len(os.sched_getaffinity(0))
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    assert 0 < told["memory_gib"] <= round(installed, 1)
    assert told["dali"], "DALI is a dependency: its version must be found without an import"
    if not torch.cuda.is_available():
        assert told["gpu"] is None
        assert told["gpu_count"] == 0


def test_is_json_and_does_not_import_dali(tmp_path):
    code = (
        "import json, sys; from pclkd.training.runs.environment import describe_environment;"
        "print(json.dumps(describe_environment())); assert not any(m.startswith('nvidia.dali') for m in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    told = json.loads(done.stdout)
    assert told["git_commit"] is None  # not a checkout
    assert str(tmp_path) not in done.stdout


def test_commit_of_a_checkout_with_a_mark_for_changes(tmp_path, monkeypatch):
    def git(*command: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(
            ["git", *identity, *command], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    monkeypatch.chdir(tmp_path)
    commit = git("rev-parse", "HEAD")
    assert describe_environment()["git_commit"] == commit
    (tmp_path / "a").write_text("2")
    assert describe_environment()["git_commit"] == commit + "+"
