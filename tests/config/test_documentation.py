"""docs/configuration.md is what the field documentation says, and nothing is undocumented."""

import subprocess
import sys
from pathlib import Path

from pipemlp.config.documentation import configuration_markdown
from pipemlp.config.structure import known_keys

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_up_to_date():
    # in a process of its own: plug-ins of other tests may have registered names in this one
    command = [sys.executable, "-m", "pipemlp.config.documentation"]
    page = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert PAGE.read_text(encoding="utf-8") == page, (
        "regenerate it: python -m pipemlp.config.documentation > docs/configuration.md"
    )


def test_every_key_is_on_the_page():
    page = configuration_markdown()
    for key, _ in known_keys():
        assert f"`{key[-1]}`" in page or f"## {key[-1]}\n" in page, key


def test_every_row_says_something():
    for line in configuration_markdown().splitlines():
        if line.startswith("| `"):
            assert len(line.split(" | ")) in (2, 4) and not line.endswith("|  |"), line
