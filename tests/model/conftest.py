"""Lets these tests import the files beside them, as a user's plug-in is imported from its own folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
