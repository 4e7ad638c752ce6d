"""The documents are true: commands and code run, links lead somewhere, keys exist, messages are what is said.

Blocks marked yaml become files (named by their first comment), with few epochs; bash and python blocks then run in
their order, of the README those under one heading. What needs a fresh environment, several machines or SLURM (launch/*,
pip) is checked for its files only, and `deepspeed` and `torchrun` for starting what `pipemlp train` starts.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipemlp import __main__ as command_line
from pipemlp.cli.app import app
from pipemlp.config import load_config
from pipemlp.config.structure import known_keys

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "launch" / "README.md"])
SECTIONS = {key[0] for key, _ in known_keys()}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EPOCHS = 2


def blocks(page: str, heading: str = "") -> list[tuple[str, str]]:
    """The kind and text of all blocks of a page, or of those below a heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    parts = [part for part in text.split("\n## ") if part.startswith(heading)] if heading else [text]
    return [block for part in parts for block in FENCE.findall(part)]


def headings_with_code(page: str) -> list[str]:
    parts = (ROOT / page).read_text(encoding="utf-8").split("\n## ")
    return [part.partition("\n")[0] for part in parts if any(kind != "yaml" for kind, _ in FENCE.findall(part))]


def commands(page: str) -> list[str]:
    return [line for kind, text in blocks(page) if kind == "bash" for line in text.splitlines()]


def identity(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the shipped configs and short budgets; the current one."""
    (tmp_path / "configs" / "data").mkdir(parents=True)
    for config in (ROOT / "configs").glob("*.yaml"):
        (tmp_path / "configs" / config.name).write_text(config.read_text())
    (tmp_path / "configs/data/houses.csv").write_bytes((ROOT / "configs/data/houses.csv").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def shorten(text: str) -> str:
    return re.sub(r"\bepochs: \d+", f"epochs: {EPOCHS}", text)


def write_yaml(folder: Path, text: str) -> None:
    name = re.match(r"# (\S+\.yaml)\n", text)
    assert name, f"a yaml block begins with its file's name:\n{text}"
    (folder / name[1]).write_text(shorten(text))


def exit_code_of(arguments: list[str], monkeypatch) -> int:
    """`pipemlp ARGUMENTS` in this process; its output is captured by capsys."""
    monkeypatch.setattr(sys, "argv", ["pipemlp", *arguments])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return int(ended.value.code or 0)


def run(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=240, env=os.environ | {"MASTER_PORT": ""}
    )
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"


def check_launcher(words: list[str], monkeypatch, capsys) -> None:
    """A command that needs more than this machine: what it names is there, and it starts as many processes as due."""
    for word in words[1:]:
        if re.match(r"(launch|configs)/", word):
            assert (ROOT / word).exists(), word
    if words[0] == "pip":
        assert words[1:] == ["install", "."] and (ROOT / "pyproject.toml").is_file()
    elif words[0] == "deepspeed":
        config = words[words.index("train") + 1 :]
        capsys.readouterr()
        assert exit_code_of(["train", *config, "--print-command"], monkeypatch) == 0
        assert capsys.readouterr().out.split() == words
    elif words[0] == "torchrun":
        assert words[1] == "--nproc-per-node" and words[3:6] == ["-m", "pipemlp", "train"]
        parallel = load_config(words[6]).chosen_parallel
        assert int(words[2]) == parallel.stages * parallel.data_parallel
    else:
        assert words[0] == "bash", words


def pages_that_run() -> list:
    """In the short run the first part of the README and one page: every `pipemlp train` costs some ten seconds."""
    first, *others = (("README.md", heading) for heading in headings_with_code("README.md"))
    return [first, ("docs/your-own-data.md", ""), *(pytest.param(*each, marks=pytest.mark.full) for each in others)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("page", "heading"), pages_that_run())
def test_everything_on_the_page_runs(page, heading, folder, monkeypatch, capsys):
    digits = folder / "configs" / "digits.yaml"
    digits.write_text(shorten(digits.read_text()))
    for kind, text in blocks(page):
        if kind == "yaml":
            write_yaml(folder, text)
    for kind, text in blocks(page, heading):
        if kind == "yaml":
            continue
        if kind == "python":
            exec(compile(text, page, "exec"), {})
        else:
            assert kind == "bash", kind
            for line in text.splitlines():
                words = shlex.split(line)
                if words[0] != "pipemlp":
                    check_launcher(words, monkeypatch, capsys)
                elif words[1] == "train":
                    run(["-m", *words])
                elif words[1] == "profile":
                    run(["-m", *words, "--seconds", "10"])
                else:
                    assert exit_code_of(words[1:], monkeypatch) == 0, f"{line}\n{capsys.readouterr()}"


def test_the_python_of_planning_runs(folder):
    """Its commands are those of the README."""
    (python,) = (text for kind, text in blocks("docs/planning.md") if kind == "python")
    exec(compile(python, "docs/planning.md", "exec"), {})


def test_extending_shows_what_is_tested(folder, monkeypatch, capsys):
    python = [text for kind, text in blocks("docs/extending.md") if kind == "python"]
    parts, mixer = python
    assert mixer == (ROOT / "tests" / "model" / "mixer_plugin.py").read_text(encoding="utf-8")
    (folder / "my_parts.py").write_text(parts)
    (folder / "mixer_plugin.py").write_text(mixer)
    for kind, text in blocks("docs/extending.md"):
        if kind == "yaml":
            write_yaml(folder, text)
    for line in commands("docs/extending.md"):
        run(["-m", *shlex.split(line)])  # in a process of its own: a name is registered once


def examples(page: str) -> list[tuple[int, str, str]]:
    """(exit code, command, output) of every console block; the heading above it gives the code."""
    found = []
    for part in (ROOT / page).read_text(encoding="utf-8").split("\n## ")[1:]:
        for _, text in FENCE.findall(part):
            first, _, output = text.partition("\n")
            assert first.startswith("$ pipemlp "), first
            found.append((int(part.split(":")[0]), first.removeprefix("$ pipemlp "), output.strip()))
    return found


@pytest.mark.parametrize(("exit_code", "command", "output"), examples("docs/troubleshooting.md"))
def test_troubleshooting_quotes_real_messages(exit_code, command, output, folder, monkeypatch, capsys):
    if "cuda" in command and Path("/dev/nvidia0").exists():
        pytest.skip("shows a machine without a GPU")
    assert exit_code_of(shlex.split(command), monkeypatch) == exit_code
    assert capsys.readouterr().err.strip() == output


def test_every_failure_has_its_section():
    from pipemlp.config import errors

    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    for code in (*codes, 130):
        assert f"\n## {code}" in text, code


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if target.startswith("http"):
            continue
        there = page.parent / target if target else page
        assert there.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_files_that_are_named_exist(page):
    for path in re.findall(r"\b(?:pipemlp|tests|launch|docs|configs)/[\w./-]+\.\w+", page.read_text(encoding="utf-8")):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "configuration.md"], ids=identity)
def test_keys_that_are_named_exist(page):
    known = {".".join(key) for key, _ in known_keys()}
    for token in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        key = re.match(r"([a-z_]+(?:\.[a-z_]+)+)(?:=|: |$)", token)
        if key and key[1].split(".")[0] in SECTIONS and not key[1].endswith((".yaml", ".py")):
            assert key[1] in known, token


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_commands_that_are_named_exist(page):
    names = {command.callback.__name__ for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    for name in re.findall(r"(?<![\w/.-])pipemlp ([a-z]+)\b", "\n".join(code_of(page))):
        assert name in names, name


def code_of(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [block for _, block in FENCE.findall(text)] + re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def test_the_picture_is_small_and_needs_nothing_from_the_web():
    picture = (ROOT / "docs" / "images" / "terminal.svg").read_text(encoding="utf-8")
    assert len(picture) < 150_000
    assert "url(http" not in picture and "pipemlp train" in picture.replace("&#160;", " ")
