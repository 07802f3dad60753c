"""The quick way in: a finished run is told at once, before anything heavy is imported."""

from pathlib import Path

from compressor.config.settings import RunConfig
from compressor.engine.folders import default_folder, finished
from compressor.engine.results import RunResult
from compressor.events import Fact, Listener, silent


def distill(
    config: RunConfig,
    *,
    out: Path | None = None,
    fresh: bool = False,
    listener: Listener = silent,
    command: str = "",
) -> RunResult:
    """Train one student, or go on where it stopped; what is finished is returned without importing torch.

    Arguments and errors as `compressor.engine.runs.distill`.
    """
    folder = out or default_folder(config)
    values = None if fresh else finished(folder, config)
    if values is not None:
        listener(Fact(title="Run", text=f"{folder}   (already complete)"))
        return RunResult(values)
    from compressor.engine.runs import distill as train

    return train(config, out=folder, fresh=fresh, listener=listener, command=command)
