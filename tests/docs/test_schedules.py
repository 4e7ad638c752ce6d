"""docs/schedules.md: its pictures, its table and its formulas are what the simulator says, and its commands run."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import pipemlp
from pipemlp import __main__ as command_line
from pipemlp.schedule.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "schedules.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURES = ROOT / "docs" / "images" / "schedules"


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_schedules", ROOT / "docs" / "images" / "make_schedules.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(name: str) -> str:
    return PAGE.partition(f"\n### {name}\n")[2].partition("\n### ")[0]


def test_every_schedule_has_its_section_and_its_picture(maker):
    drawn = {Path(command[-1]).stem for command in maker.commands()}
    assert set(METHODS) < drawn
    for name in METHODS:
        assert all(word in section(name) for word in ("Bubble: ", "In flight: ", "Source:", "arxiv.org")), name
    shown = re.findall(r"\]\(images/schedules/(.*?)\.svg\)", PAGE)
    assert sorted(shown) == sorted(drawn) == sorted(picture.stem for picture in PICTURES.glob("*.svg"))


def test_the_commands_run_and_draw_the_pictures(maker, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    maker.write_schedules(tmp_path)
    lines = [line for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]
    assert len(lines) == len(maker.commands()) + 1
    for line in lines:
        monkeypatch.setattr(sys, "argv", line.split())
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        assert not ended.value.code, f"{line}\n{capsys.readouterr()}"
    for picture in PICTURES.glob("*.svg"):
        assert (tmp_path / picture.name).read_text() == picture.read_text(), (
            f"{picture.name} is not what its command draws: python docs/images/make_schedules.py"
        )


def test_the_python_runs(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    exec(compile(code, "schedules.md", "exec"), {})
    assert len(capsys.readouterr().out.split("(")) == 2


def test_the_table_is_what_the_simulator_says():
    rows = re.findall(r"^\| `([\w-]+)` \| (\d) \| (.*) \|$", PAGE, re.M)
    assert [name for name, _, _ in rows] == list(METHODS)
    for name, num_virtual_stages, cells in rows:
        assert int(num_virtual_stages) == METHODS[name].default_virtual_stages
        expected = []
        for num_stages, num_micro_batches in ((4, 8), (8, 16)):
            memory = num_stages if name == "zb-auto" else None
            fast, slow = (
                pipemlp.simulate(name, num_stages, num_micro_batches, hop=hop, memory=memory) for hop in (0.0, 0.1)
            )
            assert max(fast.peak_in_flight) == max(slow.peak_in_flight)
            expected += [f"{fast.bubble_fraction:.1%}", f"{slow.bubble_fraction:.1%}", f"{max(fast.peak_in_flight):g}"]
        assert cells.split(" | ") == expected, name


def test_the_readme_says_the_same():
    rows = re.findall(r"^\| `([\w-]+)` \| .* \| ([\d.]+%) \| ([\d.]+) \|$", README, re.M)
    known = {
        name: cells.split(" | ") for name, _, cells in re.findall(r"^\| `([\w-]+)` \| (\d) \| (.*) \|$", PAGE, re.M)
    }
    assert [(name, bubble, held) for name, bubble, held in rows] == [
        (name, known[name][0], known[name][2]) for name in METHODS
    ]


def test_the_readme_shows_what_simulate_prints(capsys, monkeypatch):
    command = "pipemlp simulate --schedule zb-v --stages 2 --micro-batches 4"
    assert command in README
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit):
        command_line.main()
    shown = re.search(r"^    zb-v: 2 stages(?:\n|.)*?virtual stage of the stage$", README, re.M)
    assert shown is not None
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    for line in shown.group().splitlines():
        assert line.removeprefix("    ").rstrip() in printed


def value_of(formula: str, **values: float) -> float:
    """`2 v m + (p - 1)(F + I)` as a number."""
    product = re.sub(r"(?<=[\w)]) (?=[\w])|(?<=\))(?=\()", "*", formula)
    return eval(product, {"max": max}, values)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.make is not None])
def test_the_formulas_are_what_the_simulator_says(name):
    bubble, share = re.search(
        r"Bubble: (.+?)(?: if F = I = W| for m of 2 p - 1 and more)?,\sa share\sof (.+?)[.;]\s", section(name), re.S
    ).groups()
    costs = (
        [(1.0, 1.0, 1.0)] if name == "zb-v" else [(1.0, 1.0, 1.0), (1.0, 1.5, 1.0), (1.0, 1.0, 0.5), (2.0, 1.0, 1.2)]
    )
    for num_stages, num_micro_batches, num_virtual_stages in ((4, 8, None), (3, 9, None), (4, 8, 4), (1, 3, None)):
        if num_virtual_stages is not None and METHODS[name].virtual_stages is not None:
            continue
        for forward, input_gradient, weight_gradient in costs:
            simulation = pipemlp.simulate(
                name,
                num_stages,
                num_micro_batches,
                num_virtual_stages,
                forward=forward,
                input_gradient=input_gradient,
                weight_gradient=weight_gradient,
            )
            sizes = {"p": num_stages, "m": num_micro_batches, "v": simulation.schedule.num_virtual_stages}
            times = {"F": forward, "I": input_gradient, "W": weight_gradient}
            idle = simulation.makespan - num_micro_batches * sum(times.values())
            assert idle == pytest.approx(value_of(" ".join(bubble.split()), **sizes, **times), abs=1e-9)
            if len(set(times.values())) == 1:
                fraction = value_of(" ".join(share.split()), **sizes)
                assert simulation.bubble_fraction == pytest.approx(fraction, abs=1e-9)
