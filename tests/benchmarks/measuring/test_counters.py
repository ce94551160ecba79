import subprocess
import sys
import time

import pytest

from pclkd.benchmarks.measuring.counters import tree_seconds

BURN = """
import subprocess, sys, time
if sys.argv[1] == "parent":
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2], "child"], stdin=pipe, stdout=pipe)
    child.stdout.readline()
while time.process_time() < 0.4:
    pass
print("done", flush=True)
sys.stdin.readline()
"""


def test_work_of_children_and_grandchildren_counts():
    began = tree_seconds()
    own = time.process_time()
    with subprocess.Popen(
        [sys.executable, "-c", BURN, "parent", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "done\n"
        used = tree_seconds() - began - (time.process_time() - own)
        child.stdin.write("\n")
    assert used == pytest.approx(0.8, abs=0.1)


def test_own_work_counts_and_others_does_not():
    began, own = tree_seconds(), time.process_time()
    while time.process_time() - own < 0.3:
        sum(range(1000))
    assert tree_seconds() - began == pytest.approx(time.process_time() - own, abs=0.03)
