"""A process that has imported everything and forks a child for each order, so that a fault costs no import.

Reads one JSON line an order: ``id``, ``do`` (``module:function``), ``with`` (its keyword arguments), ``cwd``,
``environ`` (added to its own; null takes a variable away), ``die_at`` (words at which the child's group is killed),
``hold`` (words at which it waits for a byte from a pipe, and that pipe). Answers with lines ``ID pid N``, ``ID said
WORDS`` (from the child) and ``ID exit CODE`` (negative: ended by that signal). A child leads a process group of its
own, as a command in a terminal does, and writes stdout and stderr to ``output.txt`` in its folder. Many children may
live at once.
"""

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

VOICE = os.dup(1)
_PARENT_DEATH_SIGNAL = 1  # of prctl
_order = ""
_said: list[str] = []
listeners: list[Callable[[str], None]] = []
"""Called in the child with whatever it says."""


def say(words: str) -> None:
    """Tell the test something from a child; at once, and in one piece."""
    _said.append(words)
    os.write(VOICE, f"{_order} said {words}\n".encode())
    for listener in listeners:
        listener(words)


def said() -> list[str]:
    """Return what this child has said so far."""
    return _said


def _child(order: dict[str, Any]) -> int:
    global _order
    _order = order["id"]
    os.setsid()
    if sys.platform == "linux":  # a child that waits for the test must not outlive a server that is killed
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    os.chdir(order["cwd"])
    for key, value in order["environ"].items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value
    log = os.open("output.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, number)
    listeners.append(lambda words: _obey(order, words))
    place, _, name = order["do"].partition(":")
    code = getattr(importlib.import_module(place), name)(**order["with"])
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code or 0)


def _obey(order: dict[str, Any], words: str) -> None:
    """Die or wait at the words that the order names: what a test does when it hears them may come too late."""
    if words == order["die_at"]:
        os.killpg(0, signal.SIGKILL)
    if order["hold"] and words == order["hold"][0]:
        with open(order["hold"][1], "rb", buffering=0) as pipe:  # noqa: PTH123  # as plain as it can be
            pipe.read(1)


def _fork(order: dict[str, Any], wakeup: tuple[int, int]) -> int:
    number = os.fork()
    if number == 0:
        code = 99
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in wakeup:
                os.close(end)
            code = _child(order)
        except BaseException:  # noqa: BLE001  # whatever it was, the test must read it
            with Path("output.txt").open("a") as log:  # stderr may have been closed
                log.write(traceback.format_exc())
        finally:
            os._exit(code)
    return number


def serve() -> None:
    """Take orders until stdin is closed, then end what still lives."""
    wakeup = os.pipe()
    for end in wakeup:
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup[1])
    living: dict[int, str] = {}
    rest = b""
    while True:
        ready, _, _ = select.select([0, wakeup[0]], [], [])
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                order = json.loads(line)
                number = _fork(order, wakeup)
                living[number] = order["id"]
                os.write(VOICE, f"{order['id']} pid {number}\n".encode())
        if wakeup[0] in ready:
            os.read(wakeup[0], 4096)
        _reap(living)
    for number in living:
        os.killpg(number, signal.SIGKILL)


def _reap(living: dict[int, str]) -> None:
    while living:
        number, status = os.waitpid(-1, os.WNOHANG)
        if number == 0:
            return
        if number in living:
            os.write(VOICE, f"{living.pop(number)} exit {os.waitstatus_to_exitcode(status)}\n".encode())


def preload() -> None:
    """Import what children need; nothing is computed here, for a backward pass would forbid to fork where a GPU is."""
    for name in json.loads(os.environ.get("FAULT_PRELOAD", "[]")):
        importlib.import_module(name)
    importlib.import_module("fault_children").warm()


if __name__ == "__main__":
    sys.modules["fault_server"] = sys.modules["__main__"]  # so that children find this `say`
    preload()
    os.write(VOICE, b"0 ready\n")
    gc.freeze()  # a collection in a child would touch, and so copy, all that was imported
    serve()
    gc.unfreeze()
