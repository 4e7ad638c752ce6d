"""Lays out settings of one workload, each once, and counts the work it takes."""

from dataclasses import dataclass, field, replace

from pipemlp.planning.candidate import Candidate
from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.machine import CostSource, Machine
from pipemlp.planning.making import Known, SettingCut, cut_for_setting, lay_out
from pipemlp.planning.optimistic import Outlook, Outlooks
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.workload import Setting, Workload
from pipemlp.schedule.methods import METHODS

_PER_LAYER = 6
"""Units of work for what is done for every layer of a setting."""
_PER_LAYER_OF_CUT = {1: 20, 2: 100}
"""The same for a cut that no other setting has had, by virtual stages per stage."""
_PER_PAIR_OF_CUT, _LARGE_CUT = 100, 120_000
"""The same with more virtual stages: for every two layers, up to a limit where `balanced` looks no farther."""


@dataclass(frozen=True)
class Remembered:
    """A source of costs that is asked once only for the same rows."""

    source: CostSource
    _known: dict[tuple[int, Recompute], LayerTimes] = field(default_factory=dict, compare=False, repr=False)

    @property
    def machine(self) -> Machine:
        """That of the source."""
        return self.source.machine

    def times(self, rows: int, recompute: Recompute) -> LayerTimes:
        """Those of the source."""
        if (rows, recompute) not in self._known:
            self._known[rows, recompute] = self.source.times(rows, recompute)
        return self._known[rows, recompute]


class Laying:
    """What has been laid out of one workload so far.

    Args:
        workload: the model and its step.
        source: of the costs.
        cap_bytes: what a rank may hold.
    """

    def __init__(self, workload: Workload, source: CostSource, cap_bytes: float) -> None:
        self.workload, self.cap_bytes, self.source = workload, cap_bytes, Remembered(source)
        self.candidates: dict[Setting, Candidate] = {}
        self.work = 0
        self._outlooks = Outlooks(workload, self.source)
        self._cuts: dict[object, SettingCut] = {}

    def outlook(self, setting: Setting) -> Outlook:
        """What it takes at least."""
        return self._outlooks.of(setting)

    def num_actions(self, setting: Setting) -> int:
        """Forwards and gradients of one step of a replica."""
        kinds = 3 if METHODS[setting.schedule].splits_backward else 2
        return kinds * setting.num_stages * setting.num_virtual_stages * setting.num_micro_batches

    def work_of(self, setting: Setting) -> int:
        """Units of work that laying it out takes: an action to be clocked is one."""
        num_layers, turns = len(self.workload.layers), setting.num_virtual_stages
        work = self.num_actions(setting) + _PER_LAYER * num_layers
        if self._cut_key(setting) not in self._cuts:
            many = min(_PER_PAIR_OF_CUT * num_layers**2, _LARGE_CUT)
            work += _PER_LAYER_OF_CUT[turns] * num_layers if turns in _PER_LAYER_OF_CUT else many
        return work

    def lay_out(self, setting: Setting) -> Candidate:
        """The setting with its plan; where the fastest cut does not fit but another one might, with that.

        Raises:
            ValueError: as `making.lay_out`.
        """
        if setting in self.candidates:
            return self.candidates[setting]
        self.work += self.work_of(setting)
        known, key = Known(source=self.source), self._cut_key(setting)
        if key not in self._cuts:
            self._cuts[key] = cut_for_setting(self.workload, setting, known)
        cut = self._cuts[key]
        plan = lay_out(self.workload, replace(setting, partition=cut.boundaries), known)
        plan = replace(plan, distance=cut.distance)
        totals = [memory.total_bytes for memory in plan.memory]
        if max(totals) > self.cap_bytes >= sum(totals) / len(totals):
            self.work += 2 * self.work_of(setting)
            plan = lay_out(self.workload, setting, Known(source=self.source, memory_cap=self.cap_bytes))
        self.candidates[setting] = Candidate(setting, plan, self.cap_bytes)
        return self.candidates[setting]

    def _cut_key(self, setting: Setting) -> object:
        """Settings with the same have the same cut."""
        return (
            setting.num_stages,
            setting.num_virtual_stages,
            setting.placement_of_cut(),
            setting.num_replicas,
            setting.num_micro_batches,
            setting.recompute,
            setting.zero_stage,
            setting.partition,
        )
