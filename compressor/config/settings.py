"""The frozen settings of a run. Values are checked where they are born; `RunConfig.sha256` is a run's identity.

Importing this module does not import torch.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Select = Literal["last", "best"]
Precision = Literal["fp32", "bf16", "fp16"]
BASELINE = "scratch"
"""The method that learns without a teacher; a name in the registry like any other."""
LrSchedule = Literal["multistep", "cosine", "constant"]
AugmentationPool = int | Literal["fresh", "all"]
MOST_DRAWS = 256


def _require(condition: bool, key: str, allowed: str, given: object) -> None:
    if not condition:
        raise ValueError(f"{key} must be {allowed}, got {given!r}")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Who teaches.

    Args:
        name: of the architecture, as `compress list models` shows it.
        weights: a file, ``run:FOLDER``, or ``pretrained`` for timm's own; None takes the bank, or trains one.
    """

    name: str = "resnet32x4"
    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Who learns.

    Args:
        name: of the architecture, or ``package.module:factory``.
        init: ``scratch``, ``pretrained`` (timm's weights), or a weights file.
    """

    name: str = "shufflenetv2"
    init: str = "scratch"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learned from.

    Args:
        source: ``digits``, ``torch/NAME``, ``hfds/NAME``, a folder with ``train/`` and ``val/``, or a ``.npz`` file.
        directory: where ``torch/`` and ``hfds/`` sources lie on disk.
        val_split: share of the training images held out, in [0, 0.5], where the source has no validation part.
        image_size: pixels a side; None takes the source's own where it is one, else the student's.
        shots: labelled images a class the student may use; None for all. The teacher keeps all.
        fraction: percent of each class the student may use, in [1, 100]; not together with ``shots``.
        imbalance: the student's images of the first class over those of the last, >= 1, falling exponentially between.
        label_noise: share of the student's labels that are replaced by another class, in [0, 1).
        split_seed: of the held-out part and of the four above; the same for all methods and seeds.
        pipeline: ``resident`` keeps uint8 pixels in memory, ``stream`` decodes in workers, ``auto`` by size.
        crop_padding, flip, crop_scale: see `compressor.data.types.Augmentation`.
        augmentation_pool: ``fresh`` draws every epoch anew; a number, 1 to 256, gives each image so many draws for all
            epochs and seeds, and the teacher's answers to them are kept; ``all`` draws anew and keeps the answers.
    """

    source: str = "digits"
    directory: str | None = None
    val_split: float = 0.1
    image_size: int | None = None
    shots: int | None = None
    fraction: float = 100.0
    imbalance: float = 1.0
    label_noise: float = 0.0
    split_seed: int = 0
    skip_bad_images: bool = False
    pipeline: Literal["auto", "resident", "stream"] = "auto"
    crop_padding: int = 4
    flip: bool = True
    crop_scale: float = 0.35
    augmentation_pool: AugmentationPool = "fresh"

    def __post_init__(self) -> None:
        _require(0 <= self.val_split <= 0.5, "data.val_split", "in [0, 0.5]", self.val_split)
        _require(
            self.image_size is None or 4 <= self.image_size <= 4096, "data.image_size", "4 to 4096", self.image_size
        )
        _require(self.shots is None or self.shots >= 1, "data.shots", ">= 1", self.shots)
        _require(1 <= self.fraction <= 100, "data.fraction", "1 to 100 percent", self.fraction)
        _require(
            self.shots is None or self.fraction == 100, "data.fraction", "100 where data.shots is given", self.fraction
        )
        _require(1 <= self.imbalance <= 1e6, "data.imbalance", "1 to 1,000,000", self.imbalance)
        _require(0 <= self.label_noise < 1, "data.label_noise", "in [0, 1)", self.label_noise)
        _require(self.split_seed >= 0, "data.split_seed", ">= 0", self.split_seed)
        _require(0 <= self.crop_padding <= 64, "data.crop_padding", "0 to 64 pixels", self.crop_padding)
        _require(0 < self.crop_scale <= 1, "data.crop_scale", "in (0, 1]", self.crop_scale)
        pool = self.augmentation_pool
        _require(
            pool in ("fresh", "all") or (isinstance(pool, int) and 1 <= pool <= MOST_DRAWS),
            "data.augmentation_pool",
            f"fresh, all, or 1 to {MOST_DRAWS}",
            pool,
        )

    def for_teacher(self) -> "DataConfig":
        """Return the same data without what makes the student's part differ."""
        return replace(self, shots=None, fraction=100.0, imbalance=1.0, label_noise=0.0, augmentation_pool="fresh")


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """The method's name and those of its settings that differ from its defaults."""

    name: str = "sskd"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained; `RunConfig` has one for the student and one for a teacher that must be trained.

    Args:
        epochs: 1 to 100,000. batch_size: images a step over all processes.
        optimizer: ``sgd`` or any name timm's ``create_optimizer_v2`` knows. lr: learning rate at the start, > 0.
        schedule: of the rate. milestones: shares of the epochs, in (0, 1), where ``multistep`` multiplies by ``decay``.
        warmup_epochs: rising linearly from 0. min_lr: where ``cosine`` ends.
        ema_decay: 0 for none, else the student that is evaluated and published is a moving average, in [0, 1).
        precision: of forward and backward; losses compute in float32. micro_batches: parts a batch is split into.
        select: which epoch is published; ``best`` is chosen on the held-out part of training, never on the test set.
        evaluate_every: epochs between looks at the held-out part.
    """

    epochs: int = 30
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: LrSchedule = "multistep"
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    decay: float = 0.1
    warmup_epochs: int = 0
    min_lr: float = 0.0
    ema_decay: float = 0.0
    precision: Precision = "fp32"
    micro_batches: int = 1
    select: Select = "last"
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        _require(1 <= self.epochs <= 100_000, "training.epochs", "1 to 100,000", self.epochs)
        _require(1 <= self.batch_size <= 65_536, "training.batch_size", "1 to 65,536", self.batch_size)
        _require(0 < self.lr <= 1e9, "training.lr", "> 0", self.lr)
        _require(0 <= self.momentum < 1, "training.momentum", "in [0, 1)", self.momentum)
        _require(0 <= self.weight_decay <= 10, "training.weight_decay", "in [0, 10]", self.weight_decay)
        shares = self.milestones
        _require(
            all(0 < share < 1 for share in shares), "training.milestones", "shares of the epochs in (0, 1)", shares
        )
        _require(list(shares) == sorted(shares), "training.milestones", "in rising order", shares)
        _require(0 < self.decay <= 1, "training.decay", "in (0, 1]", self.decay)
        _require(
            0 <= self.warmup_epochs < self.epochs, "training.warmup_epochs", "fewer than epochs", self.warmup_epochs
        )
        _require(0 <= self.min_lr <= self.lr, "training.min_lr", "in [0, lr]", self.min_lr)
        _require(0 <= self.ema_decay < 1, "training.ema_decay", "in [0, 1)", self.ema_decay)
        _require(
            1 <= self.micro_batches <= self.batch_size, "training.micro_batches", "1 to batch_size", self.micro_batches
        )
        _require(self.evaluate_every >= 1, "training.evaluate_every", ">= 1", self.evaluate_every)


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and how fast; no part of a run's identity.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``. processes: as many as the run was launched with.
        threads: of the CPU; 0 takes the physical cores. workers: of the data, for streamed images; -1 chooses.
        save_every: seconds between checkpoints at most; one is also written at every phase's end.
        time_budget: seconds after which the run saves and stops; None for no limit.
        strict: refuse to resume under another thread count, where bits may differ.
        plain: leave out everything that is only there for speed.
        watch_test: also look at the test images after epochs, and write the best of them down as papers do; nothing is
            chosen by it.
        capture: whether a step is recorded and repeated as a whole: ``auto`` on CUDA, ``on`` on every device (a CPU
            gains nothing by it) and saying why where it is not, ``off``.
        compile_teacher: whether a frozen teacher's convolutions are compiled where they were measured to be faster so,
            on the CPU: ``auto`` in runs that are long enough to gain by it, ``on``, ``off``.
        replay_bytes: most disk space for teachers' answers that are kept; None for half of what is free.
    """

    device: str = "auto"
    processes: int = 1
    threads: int = 0
    workers: int = -1
    save_every: float = 600.0
    time_budget: float | None = None
    strict: bool = False
    plain: bool = False
    watch_test: bool = False
    capture: Literal["auto", "on", "off"] = "auto"
    compile_teacher: Literal["auto", "on", "off"] = "auto"
    replay_bytes: int | None = None

    def __post_init__(self) -> None:
        _require(1 <= self.processes <= 1024, "runtime.processes", "1 to 1024", self.processes)
        _require(0 <= self.threads <= 1024, "runtime.threads", "0 to 1024", self.threads)
        _require(-1 <= self.workers <= 256, "runtime.workers", "-1 to 256", self.workers)
        _require(
            self.replay_bytes is None or self.replay_bytes >= 0, "runtime.replay_bytes", ">= 0 bytes", self.replay_bytes
        )
        _require(self.save_every > 0, "runtime.save_every", "> 0 seconds", self.save_every)
        _require(
            self.time_budget is None or self.time_budget > 0, "runtime.time_budget", "> 0 seconds", self.time_budget
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything one student's run depends on."""

    seed: int = 0
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    teacher_training: TrainingConfig = field(default_factory=TrainingConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**31, "seed", "0 to 2147483647", self.seed)

    def identity(self) -> dict[str, Any]:
        """Return all that changes the result: everything but `runtime`, as plain JSON values.

        Fresh draws go unmentioned, so that runs from before there were others stay what they are.
        """
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        del values["runtime"]
        if values["data"]["augmentation_pool"] == "fresh":
            del values["data"]["augmentation_pool"]
        return values

    @property
    def sha256(self) -> str:
        """Hash of `identity`, 64 hex digits."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def with_method(self, name: str, settings: dict[str, Any]) -> "RunConfig":
        """Return the same run under another method."""
        return replace(self, method=MethodConfig(name=name, settings=settings))


def differing_keys(one: RunConfig, other: RunConfig) -> list[str]:
    """Say what makes two runs two: ``["method.kd_weight 0.9 -> 0.5", ...]``, in key order."""
    first, second = flatten(one.identity()), flatten(other.identity())
    absent = "(default)"
    return [
        f"{key.replace('method.settings.', 'method.')} {first.get(key, absent)} -> {second.get(key, absent)}"
        for key in sorted(first.keys() | second.keys())
        if first.get(key, absent) != second.get(key, absent)
    ]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested tables into dotted keys: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
