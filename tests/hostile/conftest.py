"""The modules beside the tests are found by their names; `make fuzz` runs one of them as a program."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
