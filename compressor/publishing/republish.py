"""Publish a published folder again: elsewhere, with a licence, with an ONNX file, to the hub."""

import filecmp
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from compressor import storage
from compressor.errors import InputError, StorageError
from compressor.models.folders import followed
from compressor.publishing.card import restate_license
from compressor.publishing.check import check_in_fresh_process, check_tensors, probe_images, probe_logits
from compressor.publishing.facts import check_license
from compressor.publishing.files import ONNX, RECORD, WEIGHTS
from compressor.publishing.hub import check_push
from compressor.publishing.hub import push as push_folder
from compressor.publishing.loading import load_here
from compressor.publishing.onnx import check_installed, export_onnx
from compressor.publishing.source import Source, read_published


def republish(
    source: Path,
    to: Path | None,
    *,
    push: str | None,
    onnx: bool,
    license: str | None,  # noqa: A002  # the option's name
) -> Path:
    """Copy a published student whole, check the copy in a fresh Python process, and give it its name.

    The copy must answer there as the source does in this process. It appears whole or not at all; the source is only
    replaced, whole, when it is changed in place. The same call again finds its own result and is fine.

    Args:
        source: A published folder, such as ``student/`` of a run. Checked against its own record first.
        to: The folder to write; missing parents are made. None is ``source`` itself.
        push: ``organisation/name``: then upload it as one commit.
        onnx: Also write ``model.onnx``.
        license: Of the weights, written into the card and ``LICENSE-NOTES.md``; None leaves what they say.

    Returns:
        The published folder.

    Raises:
        InputError: ``source`` is not a published folder, is damaged, holds a link, asks for packages that bring no
            architecture here or for code that may not be the user's own, or the copy answers differently.
        UsageError: The extra ``onnx`` is not installed, or nothing can be pushed.
        StorageError: ``to`` is something else already, or the disk refuses.
    """
    if push is not None:
        check_push(push)
    if onnx:
        check_installed()
    job = _Job(_open(source), onnx, None if license is None else check_license(license))
    target = source if to is None else to
    _refuse_place(target, job.source.folder)
    if os.path.lexists(target) and target.resolve() == job.source.folder:
        job.in_place()
    elif os.path.lexists(target):
        job.compare(target)
    else:
        storage.ensure_folder(target.parent)
        storage.replace_folder(target, job.fill, what="the published student")
    if push is not None:
        push_folder(target, push)
    return target


@dataclass(frozen=True)
class _Answers:
    """The source's network, and what it says to the fixed images of the check: (8, C, H, W) to (8, K)."""

    module: nn.Module
    images: Tensor
    logits: Tensor


class _Job:
    """One copy: what it is made of and how it is checked."""

    def __init__(self, source: Source, onnx: bool, license: str | None) -> None:  # noqa: A002
        self.source = source
        self._onnx = onnx
        self._license = license
        self._answers = _ask(source)
        if onnx and self._answers is None:
            raise InputError(
                f"{source.folder} holds tensors without the name of a network, so there is nothing to export",
                hint="compressor.publishing.export_onnx(model, path, input_size)",
            )

    def in_place(self) -> None:
        """Check the source where it lies; what is to be changed is changed in a copy that takes its place."""
        if self._onnx or self._license is not None:
            storage.replace_folder(self.source.folder, self.fill, replace=True, what="the published student")
        else:
            self.check(self.source.folder)

    def compare(self, target: Path) -> None:
        """Accept a folder that is there already only if it is the very copy that would be made."""
        taken = StorageError(f"{target} is already there", hint="choose another name, or set it aside")
        if target.is_symlink() or not (target / RECORD).is_file():
            raise taken
        with tempfile.TemporaryDirectory() as place:
            self.write(Path(place))
            if not _equal(Path(place), target):
                raise taken
        self.check(target)

    def fill(self, place: Path) -> None:
        """Make the copy and check it."""
        self.write(place)
        self.check(place)

    def write(self, place: Path) -> None:
        """Copy file by file, then change what was asked for."""
        for name in self.source.names:
            storage.copy_file(self.source.folder / name, place / name)
        if self._license is not None:
            restate_license(place, self._license)
        if self._onnx and self._answers is not None:
            export_onnx(self._answers.module, place / ONNX, self._size)
            files = {**self.source.record["files"], ONNX: storage.sha256_file(place / ONNX)}
            storage.write_json(place / RECORD, {**self.source.record, "files": files})

    def check(self, place: Path) -> None:
        """Compare the copy's tensors with the source's, and what it says when it is loaded in a fresh process."""
        check_tensors(place, storage.read_tensors(self.source.folder / WEIGHTS))
        if self._answers is not None and self.source.loading is not None:
            check_in_fresh_process(place, self.source.loading, self._answers.images, self._answers.logits)

    @property
    def _size(self) -> tuple[int, int, int]:
        assert self.source.loading is not None, "only a network that was loaded has answers"
        return self.source.loading.input_size


def _open(source: Path) -> Source:
    return read_published(followed(source))


def _ask(source: Source) -> _Answers | None:
    if source.loading is None:
        return None
    module = load_here(source.folder, source.loading)
    images = probe_images(source.loading)
    return _Answers(module, images, probe_logits(source.loading, module, images))


def _refuse_place(target: Path, source: Path) -> None:
    if source in target.resolve().parents:
        raise StorageError(f"{target} lies inside {source}", hint="choose a folder beside it")


def _equal(one: Path, other: Path) -> bool:
    names = {path.name for path in one.iterdir()}
    if names != {path.name for path in other.iterdir()} or any(path.is_symlink() for path in other.iterdir()):
        return False
    return all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)
