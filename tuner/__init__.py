"""Offline AutoML for edge devices: search, select, retrain and export models that fit.

The same from Python as from the command line, with the same words:

    import tuner

    run = tuner.search(target="k230", data="images/", time="20m")
    template = tuner.select(run, 1)
    model = tuner.retrain(template)
    tuner.export(model, to=["tflite"])

`import tuner` loads nothing else; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.api import Model, Run, export, extend, resume, retrain, search, select
    from tuner.errors import (
        DataError,
        InputError,
        InterruptedRunError,
        LockedError,
        NothingFitsError,
        SpecError,
        TuneError,
        UnknownNameError,
    )
    from tuner.spec import Target

__all__ = [
    "DataError",
    "InputError",
    "InterruptedRunError",
    "LockedError",
    "Model",
    "NothingFitsError",
    "Run",
    "SpecError",
    "Target",
    "TuneError",
    "UnknownNameError",
    "export",
    "extend",
    "resume",
    "retrain",
    "search",
    "select",
]

_HOMES = {"Target": "tuner.spec"} | {
    name: "tuner.api" if name[0].islower() or name in ("Model", "Run") else "tuner.errors"
    for name in __all__
    if name != "Target"
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tuner' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
