"""The benchmarks, which borrow the tests' servers from the folders that pytest's `pythonpath` names."""

import sys
from pathlib import Path

_TESTS = Path(__file__).parent.parent
sys.path += [str(_TESTS), str(_TESTS / "contracts")]
