"""A plug-in that strikes a run at a place: STRIKE="SIGKILL rank=1 at=backward step=7".

The places are those of a run: start-up, forward, backward, exchange, and what the checkpointer is about to do. The rank
that gets there leaves a marker, and is struck. With `on=0` it is rank 0 that gets there, and stays for a while; the one
that is to be struck sees the marker. One that is no rank is struck by whoever looks on from outside.

`exception` raises, `non-finite` makes a number of this step, and of all that come, not a number; others are signals.
"""

import os
import signal
import threading
import time
from pathlib import Path

STRUCK = Path(os.environ.get("STRIKE_ONCE", "struck"))
"""A file that is there once it has struck: the resumed run is left alone."""
HOLD_SECONDS = 5.0
"""Longer than it takes to hear of the marker, and of a launcher's death."""
TEXTS = {
    "writing": "writing layer-",
    "before the rename": "before the rename",
    "before the pointer": "before the pointer",
    "removing": "removing",
}
NAN = float("nan")


class State:
    """Of the strike in this process."""

    how = ""
    is_elsewhere = False
    """Whether another than this rank is struck."""
    is_due = False
    """Whether the next forward is to raise."""
    is_poisoned = False


def reach() -> None:
    """This rank is at the place."""
    STRUCK.touch()
    if State.is_elsewhere:
        time.sleep(HOLD_SECONDS)
    else:
        strike()


def strike() -> None:
    if State.how == "exception":
        raise ArithmeticError("struck")
    if State.how == "non-finite":
        State.is_poisoned = True
        return
    if State.how == "SIGSTOP":
        time.sleep(1.5)  # until a heartbeat has said where this rank is; one that is stopped cannot
    os.kill(os.getpid(), getattr(signal, State.how))
    time.sleep(0.5)  # until a signal that others handle has come; after SIGSTOP, until somebody kills us


def await_marker() -> None:
    while not STRUCK.exists():
        time.sleep(0.02)
    if State.how == "exception":
        State.is_due = True
    else:
        strike()


def before(owner: object, name: str, ready, act) -> None:
    """Act before `owner.name` is called when it is `ready`."""
    original = getattr(owner, name)

    def struck(*arguments, **options):
        if ready():
            act()
        return original(*arguments, **options)

    setattr(owner, name, struck)


def count_steps() -> dict[str, int]:
    from pipemlp.training import trainer

    done, original = {"step": 0}, trainer.Trainer._step

    def counted(self, number, batches):
        done["step"] = number + 1
        return original(self, number, batches)

    trainer.Trainer._step = counted
    return done


def reach_while_saving(wanted: str, ready) -> None:
    from pipemlp.training import checkpointer

    original = checkpointer.Checkpointer.__init__

    def init(self, run_dir, preparation, pipeline, doing):
        def told(text):
            doing(text)
            if wanted in text and ready() and not STRUCK.exists():
                reach()

        original(self, run_dir, preparation, pipeline, told)

    checkpointer.Checkpointer.__init__ = init


def may_poison(place: str) -> None:
    """Let a number be lost at the place: a gradient that comes in, a sum of gradients, else an output or the loss."""
    from pipemlp.engine.gradient_sums import GradientSums
    from pipemlp.engine.virtual_stage import MicroBatchPass, VirtualStage

    forward, backward, finish = VirtualStage.forward, MicroBatchPass.backward, GradientSums.finish

    def poisoned_forward(self, *arguments):
        output, kept = forward(self, *arguments)
        return (output * NAN if State.is_poisoned else output), kept

    def poisoned_backward(self, gradient, *, defer):
        return backward(self, gradient * NAN if State.is_poisoned else gradient, defer=defer)

    def poisoned_finish(self):
        found = list(finish(self))
        if State.is_poisoned:
            found[0][1].fill_(NAN)
        return found

    if place == "backward":
        MicroBatchPass.backward = poisoned_backward
    elif place == "exchange":
        GradientSums.finish = poisoned_finish
    else:
        VirtualStage.forward = poisoned_forward


def reach_at(place: str, step: int) -> None:
    """Have this rank notice that it gets to the place."""
    from pipemlp.engine.gradient_sums import GradientSums
    from pipemlp.engine.virtual_stage import MicroBatchPass, VirtualStage
    from pipemlp.training import worker

    done = count_steps()
    places = {
        "start-up": (worker, "build_pipeline"),
        "resuming": (worker, "restore"),
        "forward": (VirtualStage, "forward"),
        "backward": (MicroBatchPass, "backward"),
        "exchange": (GradientSums, "finish"),
    }
    if place in TEXTS:
        reach_while_saving(TEXTS[place], lambda: done["step"] >= step)
    else:
        before(*places[place], lambda: done["step"] == step and not STRUCK.exists(), reach)


def install(how: str, own: str, settings: dict[str, str]) -> None:
    """In the process of the rank `own`."""
    from pipemlp.engine.virtual_stage import VirtualStage

    struck, place = settings["rank"], settings["at"].replace("_", " ")
    on = settings.get("on", struck)
    State.how, State.is_elsewhere = how, struck != on
    if own == struck:
        may_poison(place)
    if own == struck and State.is_elsewhere:
        before(VirtualStage, "forward", lambda: State.is_due, strike)
        threading.Thread(target=await_marker, daemon=True).start()
    if own == on:
        reach_at(place, int(settings["step"]))


if "STRIKE" in os.environ and "RANK" in os.environ and not STRUCK.exists():
    kind, *words = os.environ["STRIKE"].split()
    install(kind, os.environ["RANK"], dict(word.split("=", 1) for word in words))
