"""The harnesses of both versions serve here too."""

import sys
from pathlib import Path

for part in ("v1", "v2"):
    sys.path.insert(0, str(Path(__file__).parent.parent / part))
