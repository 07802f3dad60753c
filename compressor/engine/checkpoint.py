"""Checkpoints of a lane: folders written whole with a manifest of hashes, the newest two kept.

A checkpoint without a valid manifest does not exist; the newest whole one is what a run resumes from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compressor.engine.lanes import Lane
from compressor.engine.snapshots import snapshot
from compressor.errors import InputError
from compressor.storage import (
    ensure_folder,
    join_inside,
    read_json,
    read_tensors,
    remove_tree,
    verify_folder,
    write_folder,
    write_json,
    write_tensors,
)

_KEEP = 2
_PHASE_DIGITS, _STEP_DIGITS = 2, 8


@dataclass(frozen=True, order=True)
class Place:
    """Where a checkpoint was taken; places are ordered as a run passes them."""

    phase: int
    step: int

    @property
    def folder_name(self) -> str:
        """``step-PPSSSSSSSS``: phase and step, so that names sort as places do."""
        return f"step-{self.phase:0{_PHASE_DIGITS}d}{self.step:0{_STEP_DIGITS}d}"


class Checkpoints:
    """The checkpoints of one run folder.

    Args:
        folder: of the run. config_sha256: of its settings; a checkpoint of other settings is refused.
        form: hash of the form in which the teacher answers; None where nobody teaches.
    """

    def __init__(self, folder: Path, config_sha256: str, form: str | None = None) -> None:
        self._folder = folder / "checkpoints"
        self._config_sha256 = config_sha256
        self.form = form

    def save(self, lane: Lane) -> Path:
        """Write a lane's state, then remove all but the newest two; return the folder.

        Raises:
            StorageError: it could not be written; the checkpoints before it are whole.
        """
        tensors, plain = snapshot(lane)
        place = Place(lane.position.phase, lane.position.step)
        path = ensure_folder(self._folder) / place.folder_name

        def fill(folder: Path) -> None:
            write_tensors(folder / "lane.safetensors", tensors)
            write_json(folder / "state.json", plain)

        extra = {
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "plain": lane.runtime.plain,
            "form": self.form,
        }
        write_folder(
            path,
            fill,
            config_sha256=self._config_sha256,
            extra=extra,
            replace=True,
            what=f"step {place.step}",
        )
        self._prune()
        return path

    def whole(self) -> tuple[list[Place], list[str]]:
        """Return the places of checkpoints whose every byte is as written, oldest first, and what is wrong with others.

        Raises:
            InputError: there are checkpoints but none is whole, or one belongs to other settings.
        """
        places: list[Place] = []
        faults: list[str] = []
        for place in self._places():
            path = self._folder / place.folder_name
            try:
                manifest = verify_folder(join_inside(self._folder, place.folder_name))
            except InputError as fault:
                faults.append(fault.message)
                continue
            if manifest.config_sha256 != self._config_sha256:
                raise InputError(f"{path} was made with other settings", hint="--fresh sets the folder aside")
            places.append(place)
        if faults and not places:
            raise InputError(f"no whole checkpoint is left: {faults[0]}", hint="--fresh starts again")
        return places, faults

    def read(self, place: Place) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and plain values of a whole checkpoint, with what else its bits hang on."""
        path = self._folder / place.folder_name
        manifest = verify_folder(path)
        plain = read_json(path / "state.json")
        if not isinstance(plain, dict):
            raise InputError(f"{path} is damaged: its state is no table", hint="--fresh starts again")
        plain |= {key: manifest.extra.get(key) for key in ("threads", "plain", "form")}
        return read_tensors(path / "lane.safetensors"), plain

    def keep_newest(self) -> None:
        """Remove all but the newest checkpoint, once the run is finished."""
        self._prune(keep=1)

    def _prune(self, keep: int = _KEEP) -> None:
        for place in self._places()[:-keep]:
            remove_tree(self._folder / place.folder_name)

    def _places(self) -> list[Place]:
        found = []
        for path in join_inside(self._folder.parent, self._folder.name).glob("step-*"):
            digits = path.name.removeprefix("step-")
            if digits.isascii() and digits.isdigit() and len(digits) == _PHASE_DIGITS + _STEP_DIGITS:
                found.append(Place(int(digits[:_PHASE_DIGITS]), int(digits[_PHASE_DIGITS:])))
        return sorted(found)
