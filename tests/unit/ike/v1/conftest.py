"""The harness and the certificates of the IKEv2 tests serve here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "v2"))
