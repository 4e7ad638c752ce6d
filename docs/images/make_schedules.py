"""Draws docs/images/schedules/: the pictures of docs/schedules.md, by the commands on that page.

python docs/images/make_schedules.py
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).parents[1] / "schedules.md"
PICTURES = Path(__file__).with_name("schedules")
_CSV = re.compile(r"^```csv\n(.*?)^```$\n+```bash\n.*?(\w+\.csv)", re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The page's commands that write a picture, as lists of words."""
    text = PAGE.read_text(encoding="utf-8")
    return [line.split() for line in re.findall(r"^(pipemlp simulate .*--output \S+\.svg)$", text, re.MULTILINE)]


def write_schedules(folder: Path) -> None:
    """The page's schedules of one's own, as the files that the commands read."""
    for content, name in _CSV.findall(PAGE.read_text(encoding="utf-8")):
        (folder / name).write_text(content, encoding="utf-8")


def main() -> None:
    """Run the commands and keep what they draw."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        write_schedules(Path(name))
        for command in commands():
            subprocess.run([sys.executable, "-m", *command], cwd=name, check=True, stdout=subprocess.DEVNULL)
        for picture in Path(name).glob("*.svg"):
            (PICTURES / picture.name).write_bytes(picture.read_bytes())


if __name__ == "__main__":
    main()
