"""What comes out of a run, as the reports, the JSON on the command line and Python callers see it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

SCHEMA = 1


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Args:
        values: ``schema, status, exit, run, method, seed, student, teacher, metrics, cost, config_sha256, ...``;
            plain JSON values, the same as in ``result.json``.
        model: the trained student on the CPU in eval mode; None when the run was finished before this call.
    """

    values: Mapping[str, Any]
    model: "nn.Module | None" = field(default=None, repr=False, compare=False)

    def document(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return dict(self.values)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.values["run"])

    @property
    def student_folder(self) -> Path:
        """The published student."""
        return Path(self.values["student"]["folder"])

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Accuracies in percent and what else was measured on the test images."""
        metrics: Mapping[str, Any] = self.values["metrics"]
        return metrics
