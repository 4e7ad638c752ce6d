"""How replicas exchange gradients: patterns, compression, local and asynchronous updates, overlap; over slow links too.

    python benchmarks/gradients.py [--json FILE] [--picture FILE.svg] [--only NAME] [--quick]

README.md says what is run and how to read it. Slow links need root; the picture needs matplotlib.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain, product
from pathlib import Path

import exchange_accuracy
import exchange_compression
import exchange_patterns
import exchange_speeds
import slow_links
from findings import Finding
from gradients_picture import draw, loss_rows, plotting
from rich.console import Console
from rich.table import Table
from start_ranks import run_ranks

PARTS = ("patterns", "compression", "accuracy", "local", "asynchronous", "overlap")
OVER_LOOPBACK = {
    "patterns": exchange_patterns.loopback_findings,
    "accuracy": exchange_accuracy.accuracy_findings,
    "asynchronous": exchange_speeds.asynchronous_findings,
}
SLOW, FAST = slow_links.Rate(100, 4_000), slow_links.Rate(1000, 16_000)
SLOW_FOR_LONG = slow_links.Rate(100, 64_000)
"""For messages of 256 KiB and more that all replicas send at once."""
OVER_SLOW_LINKS = {
    SLOW_FOR_LONG: {"patterns": exchange_patterns.slow_findings},
    SLOW: {"compression": exchange_compression.compression_findings, "local": exchange_speeds.local_findings},
    FAST: {
        "patterns": exchange_patterns.slow_findings,
        "compression": exchange_compression.compression_findings,
        "overlap": exchange_speeds.overlap_findings,
    },
}
LOOPBACK = "loopback"
NUM_REPLICAS = (2, 4)
MESSAGES_KIB = (16, 64, 128, 512, 1024, 2048, 4096)
"""From a PowerSGD factor's part to the largest segment of a ring."""


def main() -> int:
    """Run, print, write, draw; 0 also where a figure is not as wanted."""
    options = _options()
    if options.picture is not None:
        plotting()  # before minutes of measuring
    findings: list[Finding] = []
    rates: list[dict[str, object]] = []
    losses: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="pipemlp-benchmark-") as name:
        folder = Path(name)
        for found in chain(_over_loopback(options, folder), _over_slow_links(options, folder, rates)):
            findings += found
            _write(options, findings, rates, losses)
        if options.picture is not None:
            _say("loss under several bounds of staleness ...")
            losses = loss_rows(options, folder)
            draw(losses, options.picture)
            _write(options, findings, rates, losses)
    _print(findings, rates)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write what was found to this file too")
    parser.add_argument("--picture", type=Path, help="train under several bounds of staleness, and draw their losses")
    parser.add_argument("--only", default="", help=f"only the parts whose name contains this: {', '.join(PARTS)}")
    parser.add_argument("--link", default="", help="only this link: loopback, 100 or 1000 (Mbit/s)")
    parser.add_argument("--replicas", type=int, help="behind slow links, only so many: 2 or 4")
    parser.add_argument("--rounds", type=int, default=15, help="of each comparison (15; fewer of what takes long)")
    parser.add_argument("--quick", action="store_true", help="few rounds and small sizes: does it run, not how well")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 3
    return options


def _over_loopback(options: argparse.Namespace, folder: Path) -> Iterator[list[Finding]]:
    """By part, as all that is measured, so that what was found is written before the next takes its minutes."""
    for part, measure in OVER_LOOPBACK.items():
        if options.only in part and options.link in LOOPBACK:
            _say(f"{part}, over loopback ...")
            yield _said(measure(options, folder))


def _over_slow_links(
    options: argparse.Namespace, folder: Path, rates: list[dict[str, object]]
) -> Iterator[list[Finding]]:
    """By link, so that every link is made, and its rate proven, once."""
    chosen = {
        rate: {part: measure for part, measure in parts.items() if options.only in part}
        for rate, parts in OVER_SLOW_LINKS.items()
        if options.link in ("", str(rate.megabits))
    }
    problem, names = slow_links.missing(), sorted({part for parts in chosen.values() for part in parts})
    if names and problem is not None:
        _say(f"left out: {', '.join(names)} over slow links; {problem}")
        return
    for (rate, parts), num_replicas in product(chosen.items(), NUM_REPLICAS):
        if not parts or options.replicas not in (None, num_replicas):
            continue
        with slow_links.slow_links(num_replicas, rate) as links:
            rates.append(_proven(links, folder))
            for part, measure in parts.items():
                _say(f"{part}, {num_replicas} replicas at {rate.megabits} Mbit/s ...")
                yield _said(measure(options, folder, links))


def _write(
    options: argparse.Namespace,
    findings: list[Finding],
    rates: list[dict[str, object]],
    losses: list[dict[str, object]],
) -> None:
    """All that is known so far."""
    if options.json is None:
        return
    environment = {"machine": platform.machine(), "python": platform.python_version()}
    result = {"environment": environment, "rates": rates, "findings": [each.to_json() for each in findings]}
    options.json.write_text(json.dumps(result | {"losses": losses}, indent=1) + "\n", encoding="utf-8")


def _proven(links: slow_links.SlowLinks, folder: Path) -> dict[str, object]:
    """What messages of every size get, and long ones that all replicas send at once."""
    sizes = [2**10 * size for size in MESSAGES_KIB]
    found, at_once = run_ranks("exchange_rates:measured_rates", (sizes, 9), len(links.namespaces), folder, links)
    row = {
        "megabits": links.rate.megabits,
        "burst_bytes": links.rate.burst_bytes,
        "replicas": len(links.namespaces),
        "measured": dict(zip(sizes, found, strict=True)),
        "all_at_once": at_once,
    }
    _say(_rate_line(row))
    return row


def _rate_line(row: dict[str, object]) -> str:
    measured, at_once = row["measured"], row["all_at_once"]
    assert isinstance(measured, dict) and isinstance(at_once, float)
    sizes = ", ".join(f"{exchange_patterns.size_text(size)} {rate:.0f}" for size, rate in measured.items())
    return (
        f"{row['megabits']} Mbit/s, {row['replicas']} replicas, bursts of {row['burst_bytes']:,} bytes: messages get, "
        f"in Mbit/s: {sizes}; where all send at once {at_once:.0f}"
    )


def _said(findings: list[Finding]) -> list[Finding]:
    """As they come; the table is printed at the end."""
    for each in findings:
        _say(f"  {each.what}: {_figure(each)}{_wanted(each)}")
    return findings


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _figure(found: Finding) -> str:
    return f"{found.found:.2f}{found.unit} ({found.low:.2f} - {found.high:.2f})"


def _wanted(found: Finding) -> str:
    if found.wanted is None:
        return ""
    bound = "within" if found.within else "at least"
    return f", wanted {bound} {found.wanted:g}{found.unit}: {'yes' if found.reached else 'NO'}"


def _print(findings: list[Finding], rates: list[dict[str, object]]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    for row in rates:
        console.print(_rate_line(row))
    table = Table("part", "link")
    for title in ("N", "compared", "found", "spread", "wanted", "reached"):
        table.add_column(title, justify="left" if title == "compared" else "right")
    for each in findings:
        table.add_row(
            each.part,
            each.link,
            str(each.replicas),
            each.what,
            f"{each.found:.2f}{each.unit}",
            f"{each.low:.2f} - {each.high:.2f}",
            "" if each.wanted is None else f"{'+-' if each.within else ''}{each.wanted:g}{each.unit}",
            "" if each.reached is None else "yes" if each.reached else "no",
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
