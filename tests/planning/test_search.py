"""The search finds what laying out everything finds; what it passes over could not have won."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipemlp.config.model import ModelConfig
from pipemlp.planning import candidates
from pipemlp.planning import search as search_module
from pipemlp.planning.analytic import AnalyticCosts
from pipemlp.planning.candidate import Candidate
from pipemlp.planning.candidates import check_ranks, grids, micro_batches_of
from pipemlp.planning.comparison import Sharded, Verdict, decide, sharded_estimates
from pipemlp.planning.devices import DEVICES
from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.machine import CostSource, Curve, Machine, Network
from pipemlp.planning.making import Known, lay_out
from pipemlp.planning.optimistic import Outlooks
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.remedies import problem_text, remedies
from pipemlp.planning.search import Effort, Found, kinds_of, search
from pipemlp.planning.shapes import DataShape
from pipemlp.planning.workload import Setting, Workload
from pipemlp.training.cost_sources import Placed

PLENTY, FEW_ROWS = 1e12, 8
WIDTHS = ((64, 64, 64, 64), (512, 32, 32, 256, 16), (16, 16, 1024), (128,) * 7)


@cache
def workload(
    widths: tuple[int, ...], rows: int = 8, precision: str = "fp32", block: str = "plain", outputs: int = 3
) -> Workload:
    model = ModelConfig.model_validate({"hidden": list(widths), "block": block, "norm": "layer", "dropout": 0.1})
    layers = describe_layers(model, DataShape(20, (), outputs, "classification", (1000, 0, 0)))
    return Workload(layers, rows, precision, "adamw")


class Measured:
    """A source like a profile: overheads everywhere, curves that are no lines, layers that cost what they like."""

    def __init__(self, of: Workload, seed: int, ranks_per_node: int = 0) -> None:
        self._of, self._seed = of, seed
        rising = Curve((100.0, 1e4, 1e6), (3e-6 * (1 + seed % 3), 2e-6, 9e-5))
        slow = Curve((0.0, 1e5), (2e-5, 4e-4))
        self.machine = Machine(
            name="measured",
            is_measured=True,
            memory_bytes=1e9,
            inside=Network(rising, rising, 1e-6),
            between=Network(slow, slow, 2e-6 * (seed % 2)),
            action_seconds=(2e-6, 1e-6 * (seed % 4), 3e-6),
            overhead_seconds=1e-6 * (seed % 3),
            step_seconds=5e-5,
            optimizer_seconds=2e-9,
            is_gpu=seed % 2 == 0,
            ranks_per_node=ranks_per_node,
        )

    def times(self, rows: int, recompute: Recompute) -> LayerTimes:
        again = 0.0 if recompute == 0 else 0.5

        def column(shift: int) -> tuple[float, ...]:
            return tuple(
                1e-6 * (1 + (index * 7 + shift + self._seed) % 5) * (3 + rows * (0.1 + layer.num_parameters / 1e5))
                for index, layer in enumerate(self._of.layers)
            )

        forward, inward, weight = column(0), column(1), column(2)
        return LayerTimes(forward, tuple(i + again * f for i, f in zip(inward, forward, strict=True)), weight)


def analytic(of: Workload, device: str = "cpu", ranks_per_node: int = 0) -> Placed:
    return Placed(AnalyticCosts(of, DEVICES[device]), ranks_per_node)


@cache
def source_of(of: Workload, kind: str) -> CostSource:
    return analytic(of) if kind == "analytic" else Measured(of, len(of.layers))


@cache
def everything(of: Workload, num_ranks: int, kind: str, cap: float = PLENTY) -> tuple[Candidate, ...]:
    """All settings laid out, but zb-auto, fastest first; with the tight cut where it is needed."""
    known = Known(source=source_of(of, kind), memory_cap=cap)
    laid_out = (Candidate(each, lay_out(of, each, known), cap) for each in candidates.settings(of, num_ranks))
    return tuple(sorted(laid_out, key=lambda each: each.step_seconds))


def named(found: Found) -> list[Candidate]:
    return [each for each in found.ranking if each.setting.schedule != "zb-auto"]


@pytest.mark.parametrize(
    ("widths", "num_ranks", "kind"),
    [
        (WIDTHS[0], 2, "analytic"),
        (WIDTHS[1], 2, "measured"),
        (WIDTHS[2], 2, "analytic"),
        (WIDTHS[1], 4, "measured"),
        (WIDTHS[3], 4, "analytic"),
    ],
)
def test_the_ranking_is_that_of_all_there_is(widths, num_ranks, kind):
    of = workload(widths, FEW_ROWS)
    true = everything(of, num_ranks, kind)
    found = search(of, num_ranks, source_of(of, kind), memory_cap=PLENTY, num_wanted=4)
    assert [each.step_seconds for each in named(found)[:4]] == [each.step_seconds for each in true[:4]]
    assert found.slack == 0.0 and not found.misses
    assert found.num_considered == found.num_laid_out + found.num_slower


@pytest.mark.parametrize("share", [0.75])
def test_within_a_memory_cap(share):
    of = workload(WIDTHS[1], FEW_ROWS)
    cap = share * max(each.peak_bytes for each in everything(of, 2, "measured"))
    true = [each for each in everything(of, 2, "measured", cap) if each.fits]
    found = search(of, 2, source_of(of, "measured"), memory_cap=cap, num_wanted=3)
    assert true and found.misses
    assert [each.step_seconds for each in named(found)[:3]] == [each.step_seconds for each in true[:3]]
    assert all(each.peak_bytes <= cap for each in found.ranking)
    assert all(each.missing_bytes == each.peak_bytes - cap > 0 for each in found.misses)
    assert [each.peak_bytes for each in found.misses] == sorted(each.peak_bytes for each in found.misses)


def test_the_best_of_every_kind_is_found():
    of = workload(WIDTHS[3], FEW_ROWS)
    best: dict[object, float] = {}
    for each in everything(of, 4, "analytic"):
        if each.setting.num_virtual_stages <= 2:
            for kind in kinds_of(each.setting):
                best.setdefault(kind, each.step_seconds)
    found = search(of, 4, source_of(of, "analytic"), memory_cap=PLENTY)
    for kind, seconds in best.items():
        if kind[0] != "micro_batches":
            assert min(each.step_seconds for each in named(found) if kind in kinds_of(each.setting)) == seconds


def test_much_is_passed_over():
    of = workload((64,) * 10, 64)
    found = search(of, 4, analytic(of), memory_cap=PLENTY)
    assert found.num_laid_out < found.num_considered / 2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_outlook_is_above_what_is_laid_out(data):
    widths = data.draw(st.sampled_from(WIDTHS))
    block = data.draw(st.sampled_from(["plain", "residual", "gated"]))
    of = workload(widths, 96, data.draw(st.sampled_from(["fp32", "bf16"])), block)
    num_ranks = data.draw(st.sampled_from([1, 2, 3, 4, 6, 8]))
    per_node = data.draw(st.sampled_from([0, 1, 2]))
    source: CostSource = Measured(of, data.draw(st.integers(0, 11)), per_node)
    if data.draw(st.booleans()):
        source = analytic(of, data.draw(st.sampled_from(["cpu", "h100-80gb"])), per_node)
    setting = data.draw(st.sampled_from(list(candidates.settings(of, num_ranks))))
    setting = replace(setting, schedule=data.draw(st.sampled_from([setting.schedule, _automatic(setting)])))
    outlook = Outlooks(of, source).of(setting)
    plan = lay_out(of, setting, Known(source=source))
    assert plan.prediction is not None
    assert outlook.step_seconds <= plan.prediction.step_seconds * (1 + 1e-9)
    assert outlook.peak_bytes <= max(memory.total_bytes for memory in plan.memory) * (1 + 1e-9)


def _automatic(setting: Setting) -> str:
    """zb-auto where it may be and is quick."""
    quick = setting.num_micro_batches * setting.num_stages <= 16
    return "zb-auto" if quick and setting.num_stages > 1 and setting.num_virtual_stages <= 2 else setting.schedule


def test_zb_auto_takes_part_only_where_it_gains_enough(monkeypatch):
    of = workload(WIDTHS[1])
    source = Measured(of, 2)

    def gains() -> list[float]:
        """Of zb-auto's orders over the fastest of the other schedules."""
        found = search(of, 4, source, memory_cap=PLENTY).ranking
        usual = min(each.step_seconds for each in found if each.setting.schedule != "zb-auto")
        return [1.0 - each.step_seconds / usual for each in found if each.setting.schedule == "zb-auto"]

    assert gains() == []
    monkeypatch.setattr(search_module, "WORTH", 0.005)  # the best of them gains 0.6 % here
    assert gains() and min(gains()) >= 0.005


def test_too_little_effort_says_what_may_be_left():
    of = workload(WIDTHS[3])
    found = search(of, 4, analytic(of), memory_cap=PLENTY, effort=Effort(work=2_000, of_one=500))
    full = search(of, 4, analytic(of), memory_cap=PLENTY)
    assert found.num_laid_out < full.num_laid_out
    best = found.ranking[0].step_seconds if found.ranking else float("inf")
    assert full.ranking[0].step_seconds >= best * (1 - found.slack) * (1 - 1e-9)


def test_progress_rises_to_one():
    of = workload(WIDTHS[0])
    told: list[tuple[float, str]] = []
    search(of, 2, analytic(of), progress=lambda share, what: told.append((share, what)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[0] >= 0.0 and shares[-1] == 1.0 and all(what for _, what in told)


def test_one_rank_and_data_parallelism_are_references():
    of = workload(WIDTHS[1], FEW_ROWS)
    source = source_of(of, "measured")
    found = search(of, 2, source, memory_cap=PLENTY)
    assert found.one_rank.step_seconds == everything(of, 1, "measured")[0].step_seconds
    alone = [each for each in everything(of, 2, "measured") if each.setting.num_stages == 1]
    assert found.data_parallel is not None and found.data_parallel.step_seconds == alone[0].step_seconds
    nothing = search(of, 2, source, memory_cap=1.0)
    assert not nothing.ranking and not nothing.one_rank.fits
    assert nothing.num_hopeless + nothing.num_laid_out == nothing.num_considered
    assert nothing.one_rank.step_seconds == found.one_rank.step_seconds


def test_grids_and_ranks():
    of = workload(WIDTHS[0], 48)  # five layers with parameters
    assert grids(of, 4) == [(1, 4), (2, 2), (4, 1)]
    assert grids(of, 10) == [(5, 2)]  # 48 % 10 and 48 % 5 leave rows, 10 stages have no layers
    with pytest.raises(ValueError, match=r"0 ranks; at least 1"):
        check_ranks(of, 0)
    with pytest.raises(ValueError) as raised:
        check_ranks(of, 7)
    assert str(raised.value) == (
        "7 ranks are stages x replicas with at most 5 stages and replicas that divide the global batch of 48, but no "
        "such pair is there: 1 x 7 (48 rows % 7 = 6), 7 x 1 (more stages than the 5 layers with parameters); nearest "
        "that work: 6 or 8"
    )
    with pytest.raises(ValueError, match="nearest that work: 240$"):
        check_ranks(of, 10**9 + 7)


def test_micro_batches_divide_and_rise():
    assert micro_batches_of(4, 64) == [1, 2, 4, 8, 16, 32]
    assert micro_batches_of(2, 12) == [1, 2, 3, 4, 6, 12]
    assert micro_batches_of(4, 7) == [1, 7]
    assert micro_batches_of(1, 1024) == [1, 2, 4, 8, 16, 32, 64]
    for number in micro_batches_of(6, 360):
        assert 360 % number == 0


def verdict(of: Workload, num_ranks: int, source: CostSource, cap: float = PLENTY) -> Verdict:
    return decide(search(of, num_ranks, source, memory_cap=cap))


def test_do_not_pipeline_where_data_parallelism_is_as_good():
    narrow = workload((64, 64, 64), 2**16)  # almost nothing to reduce, much to compute
    result = verdict(narrow, 2, analytic(narrow))
    assert not result.pipeline and result.choice.setting.num_stages == 1 and result.choice.setting.num_replicas == 2
    assert result.rival is not None and result.rival.setting.num_stages > 1


def test_pipeline_where_reductions_cost_more():
    wide = workload((2048,) * 8, 16)
    result = verdict(wide, 4, analytic(wide))
    assert result.pipeline and result.choice.setting.num_stages > 1
    assert result.rival is not None and result.rival.setting.num_stages == 1
    assert result.rival.step_seconds > result.choice.step_seconds


def test_pipeline_where_data_parallelism_does_not_fit():
    deep = workload((256,) * 6, 16)
    source = analytic(deep)
    alone = [setting for setting in candidates.settings(deep, 2) if setting.num_stages == 1]
    result = verdict(deep, 2, source, 0.99 * min(peaks(deep, source, alone)))
    assert result.pipeline and result.rival is not None and not result.rival.fits


def test_one_rank_is_no_pipeline():
    of = workload(WIDTHS[0])
    result = verdict(of, 1, analytic(of))
    assert not result.pipeline and result.rival is None and result.choice.setting == Setting()


def test_sharded_data_parallelism_is_estimated():
    of = workload((1024,) * 6, 64, "bf16")
    source = analytic(of, "h100-80gb")
    alone = search(of, 8, source, memory_cap=PLENTY).data_parallel
    assert alone is not None
    both = sharded_estimates(of, 8, source, PLENTY)
    assert [each.zero_stage for each in both] == [2, 3]
    assert both[1].peak_bytes < both[0].peak_bytes < alone.peak_bytes
    assert both[0].step_seconds >= alone.step_seconds * (1 - 1e-9)  # as much is sent as with stage 1
    assert sharded_estimates(of, 8, source, 1.0) == ()
    assert sharded_estimates(of, 1, source, PLENTY) == ()


def test_sharding_is_named_where_it_is_better():
    of = workload((64, 64, 64), 2**16)
    source = analytic(of)
    found = search(of, 2, source, memory_cap=PLENTY)
    slow = Sharded(2, Setting(num_replicas=2), found.ranking[0].step_seconds, 1.0)
    fast = replace(slow, zero_stage=3, step_seconds=0.9 * slow.step_seconds)
    assert decide(found, [slow, fast]).sharded == fast
    assert decide(found, [slow]).sharded is None


def peaks(of: Workload, source: CostSource, all_settings: Sequence[Setting]) -> list[int]:
    plans = (lay_out(of, setting, Known(source=source)) for setting in all_settings)
    return [max(memory.total_bytes for memory in plan.memory) for plan in plans]


def test_what_is_missing_and_what_would_do():
    of = workload((512,) * 5, 16)
    source = analytic(of)
    smallest = min(peaks(of, source, list(candidates.settings(of, 2))))
    found = remedies(of, 2, source, 0.85 * smallest)
    assert found.nearest.setting.num_ranks == 2 and found.nearest.peak_bytes <= 1.05 * smallest
    assert found.more_ranks is not None and found.more_ranks.fits and found.more_ranks.setting.num_ranks == 4
    text = problem_text(found)
    for part in (
        "memory: nothing fits into",
        "too much",
        "parameter",
        "It would fit on 4 ranks",
        "On 2 ranks, ",
    ):
        assert part in text
    nothing = remedies(of, 2, source, 1.0)
    assert nothing.more_ranks is None and nothing.most_ranks == 64
    text = problem_text(nothing)
    assert "nothing fits into 1 bytes per rank" in text and "No number of ranks up to 64 was found" in text
    tight = remedies(of, 2, source, 0.99 * found.nearest.peak_bytes)  # what is nearest does not hang on the cap
    assert tight.nearest.peak_bytes == pytest.approx(found.nearest.peak_bytes, rel=0.02)
    some = remedies(of, 4, source, 0.5 * smallest).more_ranks
    assert some is not None and some.setting.num_ranks == 10  # and not 16
