"""What is known about a student when it is published: the network, how images are prepared, and how it was made."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from torch import nn

from compressor.errors import InputError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_LICENSE = re.compile(r"[A-Za-z][A-Za-z0-9]*([.+-][A-Za-z0-9]+)*")
_ROOT = r"(?:~?/(?=[^\s/])|~\w+/|[A-Za-z]:[\\/]|\\\\)"
_ABSOLUTE = re.compile(
    rf"(?<![\w./~-])(?:(?P<quote>['\"])(?P<quoted>{_ROOT}(?:(?!(?P=quote)).)*)(?P=quote)"
    rf"|(?P<bare>{_ROOT}(?:\\ |[^\s'\"])*))"
)
_LOCAL = ("local-dir:", "run:")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming", "random")


@dataclass(frozen=True, kw_only=True)
class TeacherFacts:
    """Who taught.

    Args:
        name: As the user gave it; a local path is shortened to its last part before it is published.
        origin: In words, where its weights came from, if known.
        sha256: Of its weights, 64 hex digits.
        metrics: Measured on the same data as the student's, such as ``top1`` in percent.
        parameters: How many, if known.
        hub_id: ``organisation/name`` on the Hugging Face hub, only if it comes from there.
        license: Of its weights, if known.
    """

    name: str
    origin: str | None = None
    sha256: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: int | None = None
    hub_id: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        check_hub_id(self.hub_id, "the teacher's hub id")


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What was learned: name as the user gave it, hub id only if it is on the hub, licence if known.

    Args:
        images: How many the student learned from, if known.
        scenario: How those differ from the data as they are, such as ``20 % wrong labels``; empty if they do not.
    """

    name: str
    images: int | None = None
    scenario: str = ""
    hub_id: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        check_hub_id(self.hub_id, "the hub id of the data")


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A student that is ready to be published.

    Args:
        module: The student; with the parts in ``extras`` where the method says that they belong to it. It is copied to
            the CPU, made float32 and put in eval mode for publishing.
        architecture: Its name in timm's registry (zoo names included); None for a network of the user's own.
        inner: The student's own architecture, where ``architecture`` is that of the student and its extras together.
        extras: Parts of ``module`` that are not the student's, in words, each with its number of parameters.
        factory: ``package.module:factory`` of such a network; None when there is none to import.
        model_args: What the architecture or factory was built with beside ``num_classes``, such as
            ``{"img_size": 64}``; plain values.
        requires: Packages that must be imported before timm knows the architecture, such as ``compressor_zoo``.
        class_names: One per class, in the order of the logits.
        input_size: (C, H, W) in pixels.
        mean, std: Of pixels in [0, 1], one per channel.
        interpolation: One of `INTERPOLATIONS`. crop_pct: share of the resized image that is kept, in (0, 1].
        version: Of this program. method: its name. recipe: the recipe's name, if any. settings: of the method.
        data: See `DataFacts`. teacher: None when there was none.
        seed: Of the run. seeds: how many runs the metrics are the mean of.
        epochs: Trained. select: which epoch is published and what it was chosen on, in words.
        config_sha256: Of all settings. command: the exact command line.
        metrics: Of the student: ``top1``, ``top5``, ``agreement`` in percent, ``ece`` in [0, 1], and others.
        measured_on: What all metrics were measured on, in words.
        scratch_metrics: Of the same student trained without a teacher, if that was done.
        cost: Such as ``{"seconds": 531.0, "peak_bytes": 1.1e9}``.
        hardware: In words. started_from: hub id of the weights the student started from, if it has one.
        first_weights: in words, what it started from when that has no hub id.
        license: Of the published weights, an SPDX-like id of the hub; None publishes ``other`` with a warning.
    """

    module: nn.Module
    architecture: str | None
    inner: str | None = None
    extras: Mapping[str, int] = field(default_factory=dict)
    factory: str | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    class_names: tuple[str, ...]
    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop_pct: float = 1.0
    version: str
    method: str
    recipe: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: DataFacts
    teacher: TeacherFacts | None = None
    seed: int
    seeds: int = 1
    epochs: int
    select: str = "the last epoch"
    config_sha256: str
    command: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    measured_on: str = "the test part of the data"
    scratch_metrics: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    hardware: str | None = None
    started_from: str | None = None
    first_weights: str = "random"
    license: str | None = None

    def __post_init__(self) -> None:
        _check(bool(self.class_names), "class_names", "one name per class", self.class_names)
        _check(len(self.input_size) == 3 and min(self.input_size) > 0, "input_size", "(C, H, W)", self.input_size)
        for key, values in (("mean", self.mean), ("std", self.std)):
            _check(len(values) == self.input_size[0], key, f"{self.input_size[0]} numbers", values)
        _check(min(self.std) > 0, "std", "> 0", self.std)
        _check(0 < self.crop_pct <= 1, "crop_pct", "in (0, 1]", self.crop_pct)
        _check(self.interpolation in INTERPOLATIONS, "interpolation", ", ".join(INTERPOLATIONS), self.interpolation)
        _check(self.seeds >= 1, "seeds", ">= 1", self.seeds)
        if self.factory is not None:
            _check(self.architecture is None, "factory", "None beside an architecture", self.factory)
            _check(bool(_FACTORY.fullmatch(self.factory)), "factory", "package.module:factory", self.factory)
        for name in self.requires:
            _check(bool(_PACKAGE.fullmatch(name)), "requires", "importable names", name)
        check_hub_id(self.started_from, "the hub id of the first weights")
        if self.license is not None:
            check_license(self.license)

    @property
    def num_classes(self) -> int:
        """How many classes the logits have."""
        return len(self.class_names)


def check_hub_id(given: str | None, what: str) -> None:
    """Raise InputError unless ``given`` is None or looks like ``organisation/name``, not like a path."""
    if given is not None and not _HUB_ID.fullmatch(given):
        raise InputError(f"{what} must be organisation/name, got {given!r}")


def check_license(given: str) -> str:
    """Return a licence in the hub's spelling, lower case.

    Raises:
        InputError: It is no id but a sentence, a path, or a word that YAML takes for something else.
    """
    if not _LICENSE.fullmatch(given) or given.lower() in ("null", "true", "false", "yes", "no", "on", "off"):
        raise InputError(f"license must be an id of the hub, got {given!r}", hint="apache-2.0, mit, cc-by-4.0, other")
    return given.lower()


def public_command(command: str) -> str:
    """Return a command in which every absolute path is shortened to its last part: ``-d /home/me/x`` to ``-d .../x``.

    A space in a path ends it unless the path is quoted or the space is escaped, as in a shell.
    """
    return _ABSOLUTE.sub(_shortened, command)


def public_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings whose texts hold no absolute path."""
    return {name: _public_value(value) for name, value in settings.items()}


def _public_value(value: Any) -> Any:
    if isinstance(value, str):
        return public_command(value)
    if isinstance(value, Mapping):
        return public_settings(value)
    return [_public_value(item) for item in value] if isinstance(value, list | tuple) else value


def _shortened(found: re.Match[str]) -> str:
    quote, path = found["quote"] or "", found["quoted"] or found["bare"]
    last = re.split(r"/|\\(?! )", path.rstrip("/\\"))[-1]
    return f"{quote}.../{last}{quote}" if last not in ("", "~") else f"{quote}...{quote}"


def public_name(name: str) -> str:
    """Return a name that says nothing about the machine: of a local path only the last part."""
    bare = next((name.removeprefix(prefix) for prefix in _LOCAL if name.startswith(prefix)), name)
    if bare != name or bare.startswith(("/", ".", "~")):
        return PurePosixPath(bare).name or "local"
    if "\\" in bare or PureWindowsPath(bare).drive:
        return PureWindowsPath(bare).name or "local"
    return bare


def _check(fine: bool, key: str, allowed: str, given: object) -> None:
    if not fine:
        raise InputError(f"{key} of a publication must be {allowed}, got {given!r}")
