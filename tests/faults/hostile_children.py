"""What the fork server's children do for the rows of hostile files: commands under a `watch`, one after the other."""

import io
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

from watch import TOKEN, Forbidden, Watch

ANSWERS = "answers.json"
_SECONDS = 30


class Hanging(BaseException):
    """A command did not end."""


def commands(
    cases: Sequence[Mapping[str, Any]],
    warm: Sequence[Sequence[str]] = (),
    secret: str | None = None,
    writable: Sequence[str] = (),
    watched: bool = True,
    memory: int | None = None,
    site: str | None = None,
) -> int:
    """Run command lines and write down what became of each: ``label, exit, said, seen, seconds``.

    Args:
        cases: each with ``label``, ``arguments``, and ``remove``: what to remove afterwards, so that the next finds the
            place as it was. warm: command lines that are run before anything is watched, so that all is imported.
        secret, writable: see `Watch`; the working folder is always writable.
        watched: False for inputs that cannot hold code. memory: bytes that the machine pretends to have.
        site: a folder of installed packages.
    """
    from fault_children import hurry

    import compressor.api
    import compressor.data.load
    import compressor.engine.inputs
    import compressor.registry
    from compressor.cli.main import main
    from compressor.engine.evaluate import latencies

    hurry()
    compressor.api.latencies = partial(latencies, warm_up=0, runs=2)
    if memory is not None:
        compressor.data.load.memory_bytes = lambda: memory
        compressor.engine.inputs.memory_bytes = lambda: memory
    if site is not None:
        sys.path.insert(0, site)
        compressor.registry.forget()
        compressor.registry.IMPORT_SECONDS = 1.0
    for arguments in warm:
        _said(lambda arguments=arguments: main(arguments))  # type: ignore[misc]  # mypy cannot type the default
    watch = None
    if watched:
        _plant_module()
        watch = Watch([Path.cwd(), *map(Path, writable)], None if secret is None else Path(secret))
    answers = []
    for case in cases:
        answers.append(_answer(case, lambda case=case: main(case["arguments"]), watch))  # type: ignore[misc]  # as above
        for name in case.get("remove", ()):
            _remove(Path(name))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    Path(ANSWERS).write_text(json.dumps({"answers": answers, "memory": most}))
    return 0


def unsafe(cases: Sequence[Mapping[str, Any]]) -> int:
    """Read payloads as they want to be read, to see that they are alive and the watch is not blind.

    Args:
        cases: each with ``label``, ``path`` and ``reader``: ``torch`` or ``pickle``.
    """
    import pickle

    import torch

    readers = {
        "torch": lambda path: torch.load(path, weights_only=False),
        "pickle": lambda path: pickle.loads(path.read_bytes()),
    }
    _plant_module()
    watch = Watch([Path.cwd()], overlooked="pickle.find_class")
    answers = []
    for case in cases:
        reader, path = readers[case["reader"]], Path(case["path"])
        answers.append(_answer(case, lambda reader=reader, path=path: reader(path), watch))  # type: ignore[misc]  # as above
    Path(ANSWERS).write_text(json.dumps({"answers": answers, "memory": 0}))
    return 0


def stopped(args: Sequence[str], steps: int) -> int:
    """Run a command that is asked to stop after so many steps; it saves every four."""
    from fault_children import hurry

    import compressor.engine.runs
    from compressor.cli.main import main
    from compressor.engine.interrupts import StopRequest

    class Stopping(StopRequest):
        seen = 0

        @property
        def asked(self) -> bool:
            self.seen += 1
            return self.seen >= steps

    hurry()
    compressor.engine.runs.StopRequest = Stopping  # type: ignore[misc]  # for this child alone
    return main(args)


def losing(args: Sequence[str], steps: int, kind: str, lost: Sequence[str]) -> int:
    """Run a command whose files are removed or cut after so many steps; it saves after each."""
    from fault_children import hurry

    import compressor.engine.runs
    from compressor.cli.main import main
    from compressor.engine.interrupts import StopRequest

    class Losing(StopRequest):
        seen = 0

        @property
        def asked(self) -> bool:
            self.seen += 1
            for name in lost if self.seen == steps else ():
                Path(name).unlink() if kind == "gone" else os.truncate(name, 60)
            return False

    hurry(1)
    compressor.engine.runs.StopRequest = Losing  # type: ignore[misc]  # for this child alone
    return main(args)


def _plant_module() -> None:
    """Make the module that payloads import, so that an import of it would succeed, and be seen."""
    Path(f"{TOKEN}.py").write_text("ran = True\n")
    sys.path.insert(0, str(Path.cwd()))


def _answer(case: Mapping[str, Any], act: Callable[[], Any], watch: Watch | None) -> dict[str, Any]:
    began = time.monotonic()
    seen: list[str] = []
    if watch is None:
        code, said = _said(act)
    else:
        with watch.armed() as seen:
            code, said = _said(act)
    spent = time.monotonic() - began
    return {"label": case["label"], "exit": code, "said": said, "seen": seen, "seconds": spent}


def _said(act: Callable[[], Any]) -> tuple[int, str]:
    """Return the exit code and both streams; -1 when it was forbidden, -2 when it hung, -3 for any other exception."""
    said = io.StringIO()
    signal.signal(signal.SIGUSR1, _too_long)  # the program under test has a use for SIGALRM
    watchdog = threading.Timer(_SECONDS, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    watchdog.start()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            code = act()
        return (code if isinstance(code, int) else 0), said.getvalue()
    except Forbidden as cause:
        return -1, f"{said.getvalue()}{cause}"
    except Hanging:
        return -2, f"{said.getvalue()}hung"
    except Exception as cause:  # noqa: BLE001  # told to the test
        return -3, f"{said.getvalue()}{type(cause).__name__}: {cause}"
    finally:
        watchdog.cancel()


def _too_long(*_: Any) -> None:
    raise Hanging


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
