"""A plug-in that strikes its own process: STRIKE="SIGKILL rank=1 at=backward step=7".

The places are those of a run: start-up, forward, backward, exchange, and what the checkpointer is about to do.
"""

import os
import signal
import time
from pathlib import Path

STRUCK = Path(os.environ.get("STRIKE_ONCE", "struck"))
"""A file that is there once it has struck: the resumed run is left alone."""
TEXTS = {
    "writing": "writing layer-",
    "before the rename": "before the rename",
    "before the pointer": "before the pointer",
    "removing": "removing",
}


def strike(how: str) -> None:
    STRUCK.touch()
    if how == "exception":
        raise ArithmeticError("struck")
    if how == "SIGSTOP":
        time.sleep(1.5)  # until a heartbeat has said where this rank is; one that is stopped cannot
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(0.5)  # until a signal that others handle has come; after SIGSTOP, until somebody kills us


def before(owner: object, name: str, ready) -> None:
    """Strike when `owner.name` is called the first time that it is `ready`."""
    original = getattr(owner, name)

    def struck(*arguments, **options):
        if ready() and not STRUCK.exists():
            strike(HOW)
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


def strike_while_saving(wanted: str, ready) -> None:
    from pipemlp.training import checkpointer

    original = checkpointer.Checkpointer.__init__

    def init(self, run_dir, preparation, pipeline, doing):
        def told(text):
            doing(text)
            if wanted in text and ready() and not STRUCK.exists():
                strike(HOW)

        original(self, run_dir, preparation, pipeline, told)

    checkpointer.Checkpointer.__init__ = init


def install(place: str, step: int) -> None:
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
        strike_while_saving(TEXTS[place], lambda: done["step"] >= step)
    else:
        before(*places[place], lambda: done["step"] == step)


HOW = ""
if "STRIKE" in os.environ:
    HOW, *words = os.environ["STRIKE"].split()
    settings = dict(word.split("=", 1) for word in words)
    if os.environ.get("RANK") == settings["rank"] and not STRUCK.exists():
        install(settings["at"].replace("_", " "), int(settings["step"]))
