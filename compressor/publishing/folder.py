"""Write the published folder: built aside, checked in a fresh process, then given its name."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from compressor import storage
from compressor.errors import InputError
from compressor.publishing.card import write_card, write_license_notes
from compressor.publishing.check import check_here, check_in_fresh_process, check_tensors, probe_images, probe_logits
from compressor.publishing.facts import Publication
from compressor.publishing.files import write_config, write_record, write_weights
from compressor.publishing.loading import loading_of

Check = Literal["fresh", "here"]
"""Who loads the folder again before it counts: a new Python process, or, for many students at once, this one."""


@dataclass(frozen=True)
class Published:
    """What `publish` did.

    Attributes:
        folder: Where the student lies now.
        load: The line that loads it, or None when it has no importable architecture.
        difference: Largest difference of a logit between the student and the folder loaded again; None when there was
            nothing to load it with and only the tensors were read back.
        warnings: What the publisher should know.
    """

    folder: Path
    load: str | None
    difference: float | None
    warnings: tuple[str, ...]


def publish(facts: Publication, folder: str | Path, *, replace: bool = False, check: Check = "fresh") -> Published:
    """Write ``model.safetensors``, ``config.json``, ``compress.json``, ``README.md`` and ``LICENSE-NOTES.md``.

    The folder appears only after a fresh Python process, without this package, has loaded it and its logits on eight
    fixed images equal the student's to 1e-6. Equal publications give equal bytes.

    Args:
        facts: The student and all that is known about it.
        folder: The final name; missing parents are made.
        replace: Put it in place of what has that name; the old folder goes only when the new one is complete.
        check: ``here`` loads the folder in this process instead, which takes a tenth of the time and cannot see a
            need of something that only this process has imported.

    Raises:
        InputError: The facts do not fit the student, or it does not load again with equal answers.
        StorageError: The name is taken, or the disk refuses.
    """
    folder = Path(folder)
    module = copy.deepcopy(facts.module).cpu().float().eval()
    tensors = _tensors(module)
    loading = loading_of(facts)
    images = probe_images(loading)
    logits = probe_logits(loading, module, images)
    load_again = check_here if check == "here" else check_in_fresh_process
    difference: float | None = None

    def fill(place: Path) -> None:
        nonlocal difference
        write_weights(place, facts, tensors)
        write_config(place, facts, module)
        write_record(place, facts)
        write_card(place, facts)
        write_license_notes(place, facts)
        check_tensors(place, tensors)
        if facts.architecture or facts.factory:
            difference = load_again(place, loading, images, logits)

    storage.ensure_folder(folder.parent)
    storage.replace_folder(folder, fill, replace=replace, what="the published student")
    load = f"timm.create_model({f'local-dir:{folder}'!r}, pretrained=True)" if facts.architecture else facts.factory
    return Published(folder, load, difference, _warnings(facts))


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    tensors = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise InputError(f"{name} of the student is no tensor, so it cannot be published")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{name} of the student has values that are NaN or infinite; it is not published")
        tensors[name] = value
    return tensors


def _warnings(facts: Publication) -> tuple[str, ...]:
    found = []
    if facts.license is None:
        found.append("no licence was given; the card says 'other' (--license apache-2.0, for one)")
    if facts.architecture is None and facts.factory is None:
        found.append("this network has no importable name: only its tensors could be checked")
    if facts.architecture is None and facts.factory is not None:
        found.append(f"the code of {facts.factory} is not part of the folder: who loads it must have it")
    return tuple(found)
