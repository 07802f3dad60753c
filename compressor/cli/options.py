"""Every option that is a setting of a run, in one table: its key, help, panel and environment variable.

The commands' signatures, their help, the environment variables and the reference page are made from it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from compressor.errors import UsageError

MODELS, DATA, METHOD, TRAINING, RUN, OUTPUT = "Models", "Data", "Method", "Training", "Run", "Output"
PANELS = (MODELS, DATA, METHOD, TRAINING, RUN, OUTPUT)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgt]?)b)?")
_ZEROS = {"": 0, "k": 3, "m": 6, "g": 9, "t": 12}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+|\d+(?:\.\d+)?")


def to_seconds(text: str) -> float:
    """Read a duration: ``90``, ``30m``, ``1h30m``, ``2d``; seconds, >= 0.

    Raises:
        ValueError: it is none.
    """
    cleaned = text.strip().lower()
    if not _DURATION.fullmatch(cleaned):
        raise ValueError(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", cleaned)
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


def to_bytes(text: str) -> int:
    """Read an amount of bytes: ``500000``, ``200MB``, ``1.5GB`` (powers of 1000); >= 0.

    Raises:
        ValueError: it is none.
    """
    found = _BYTES.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(text)
    return round(float(found[1]) * 10.0 ** _ZEROS[found[2] or ""])


def to_pool(text: str) -> int | str:
    """Read the size of an augmentation pool: ``fresh``, ``all`` or a whole number.

    Raises:
        ValueError: it is none of them.
    """
    word = text.strip().lower()
    return word if word in ("fresh", "all") else int(word)


def to_flag(text: str) -> bool:
    """Read yes or no.

    Raises:
        ValueError: it is neither.
    """
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


@dataclass(frozen=True)
class Kind:
    """How a value is written: the function that reads it and the words for what is allowed."""

    read: Callable[[str], Any]
    allowed: str
    metavar: str


TEXT = Kind(str, "text", "TEXT")
WHOLE = Kind(int, "a whole number", "N")
NUMBER = Kind(float, "a number", "X")
PERCENT = Kind(float, "a percentage", "PERCENT")
PATH = Kind(str, "a path", "PATH")
SECONDS = Kind(to_seconds, "a duration such as 90s, 30m or 1h30m", "TIME")
BYTES = Kind(to_bytes, "an amount such as 500MB or 20GB", "SIZE")
POOL = Kind(to_pool, "fresh, all or a whole number", "fresh|all|N")
FLAG = Kind(to_flag, "true or false", "")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """An option that sets one key of a run.

    Args:
        option: without dashes. key: dotted, of `compressor.config`. default: words for help where the value that
            `RunConfig` starts from is not what the user should read. choices: the allowed words, if they are few.
    """

    option: str
    key: str
    panel: str
    help: str
    kind: Kind = TEXT
    short: str = ""
    default: str = ""
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """Name of the environment variable that does the same."""
        return variable(self.option)

    @property
    def parameter(self) -> str:
        """Name of the Python parameter."""
        return self.option.replace("-", "_")

    @property
    def metavar(self) -> str:
        """What stands for the value in help."""
        return "|".join(self.choices) or self.kind.metavar

    def read(self, text: str, origin: str) -> Any:
        """Read a value as it was written.

        Raises:
            UsageError: it is not of this kind; the message names where it was written.
        """
        if self.choices and text not in self.choices:
            raise UsageError(f"{origin} must be {' or '.join(self.choices)}, got {text!r}")
        try:
            return self.kind.read(text)
        except ValueError as cause:
            hint = "several values: compress compare" if self.option in SCENARIO and "," in text else None
            raise UsageError(f"{origin} must be {self.kind.allowed}, got {text!r}", hint=hint) from cause

    def shown_default(self) -> str:
        """Return the default as help shows it."""
        if self.default:
            return self.default
        value = _start_values()[self.key]
        return "no" if value is False else "none" if value is None else str(value)


def variable(option: str) -> str:
    """Name the environment variable of an option given without its dashes."""
    return f"COMPRESS_{option.replace('-', '_').upper()}"


def _setting(option: str, key: str, panel: str, text: str, kind: Kind = TEXT, **more: Any) -> Setting:
    return Setting(option=option, key=key, panel=panel, help=text, kind=kind, **more)


_RECIPE = "of the recipe"
_WATCH = "Also look at the test images after epochs and write the best down, as papers do; nothing is chosen by it."
SETTINGS: tuple[Setting, ...] = (
    _setting("teacher", "teacher.name", MODELS, "Network that teaches; see `compress list models`.", short="t"),
    _setting(
        "teacher-weights",
        "teacher.weights",
        MODELS,
        "Its weights: a file, run:FOLDER, or `pretrained` for timm's own.",
        PATH,
        default="the teacher bank, which trains what it does not have",
    ),
    _setting("student", "student.name", MODELS, "Network that learns, or package.module:factory.", short="s"),
    _setting("student-init", "student.init", MODELS, "Where it starts: `scratch`, `pretrained`, or a weights file."),
    _setting("data", "data.source", DATA, "digits, torch/NAME, hfds/NAME, a folder, or a .npz file.", short="d"),
    _setting(
        "data-dir",
        "data.directory",
        DATA,
        "Where torch/ and hfds/ data lie on disk.",
        PATH,
        default="of the source",
    ),
    _setting(
        "val-split",
        "data.val_split",
        DATA,
        "Share of the training images held out where the data has no validation part.",
        NUMBER,
    ),
    _setting("img-size", "data.image_size", DATA, "Pixels a side.", WHOLE, default="of the data or the student"),
    _setting("shots", "data.shots", DATA, "Labelled images a class that the student may use.", WHOLE, default="all"),
    _setting("fraction", "data.fraction", DATA, "Percent of each class that the student may use.", PERCENT),
    _setting(
        "label-noise", "data.label_noise", DATA, "Share of the student's labels replaced by another class.", NUMBER
    ),
    _setting(
        "imbalance", "data.imbalance", DATA, "The student's images of the first class over those of the last.", NUMBER
    ),
    _setting("workers", "runtime.workers", DATA, "Processes that decode images.", WHOLE, default="auto"),
    _setting("skip-bad-images", "data.skip_bad_images", DATA, "Leave out unreadable images and count them.", FLAG),
    _setting(
        "augmentation-pool",
        "data.augmentation_pool",
        DATA,
        "Draws of each image's augmentation: `fresh` each epoch, N for all epochs (the teacher answers each once), or "
        "`all`: fresh, with answers remembered.",
        POOL,
    ),
    _setting("method", "method.name", METHOD, "How knowledge is passed on; see `compress list methods`.", short="m"),
    _setting("epochs", "training.epochs", TRAINING, "Times the training images are seen.", WHOLE, default=_RECIPE),
    _setting("time-budget", "runtime.time_budget", TRAINING, "Save and stop after this time.", SECONDS),
    _setting(
        "batch-size", "training.batch_size", TRAINING, "Images a step, over all processes.", WHOLE, default=_RECIPE
    ),
    _setting("lr", "training.lr", TRAINING, "Learning rate at the start.", NUMBER, default=_RECIPE),
    _setting("seed", "seed", TRAINING, "Seed of every random draw.", WHOLE),
    _setting(
        "precision",
        "training.precision",
        TRAINING,
        "Of the forward and backward passes.",
        choices=("fp32", "bf16", "fp16"),
    ),
    _setting("device", "runtime.device", TRAINING, "auto, cpu, cuda, cuda:N or mps."),
    _setting("processes", "runtime.processes", TRAINING, "Processes that share each batch (torchrun).", WHOLE),
    _setting("micro-batches", "training.micro_batches", TRAINING, "Parts a batch is split into.", WHOLE),
    _setting("threads", "runtime.threads", TRAINING, "CPU threads.", WHOLE, default="physical cores"),
    _setting(
        "select",
        "training.select",
        TRAINING,
        "Epoch that is published; `best` is chosen on held-out images.",
        choices=("last", "best"),
    ),
    _setting("save-every", "runtime.save_every", RUN, "Time between checkpoints at most.", SECONDS, default="10m"),
    _setting(
        "replay-limit",
        "runtime.replay_bytes",
        RUN,
        "Most disk space for the teacher's answers that --augmentation-pool keeps.",
        BYTES,
        default="half of the free space",
    ),
    _setting("plain", "runtime.plain", RUN, "Leave out all that is only there for speed, for suspicion's sake.", FLAG),
    _setting("watch-test", "runtime.watch_test", RUN, _WATCH, FLAG),
    _setting(
        "capture",
        "runtime.capture",
        RUN,
        "Record a step once and repeat it whole, where the device can.",
        choices=("auto", "on", "off"),
    ),
    _setting(
        "compile-teacher",
        "runtime.compile_teacher",
        RUN,
        "Compile the teacher's convolutions where that was measured to be faster: in long runs on a CPU, or always.",
        choices=("auto", "on", "off"),
    ),
    _setting("strict", "runtime.strict", RUN, "Refuse to resume where bits may differ (other thread count).", FLAG),
)

SCENARIO = ("shots", "fraction", "label-noise", "imbalance")
"""Options that change the student's images and leave the teacher's as they are; `compare` takes lists of values."""


def pick(*options: str) -> tuple[Setting, ...]:
    """Return some of the settings, in the order of the table."""
    missing = set(options) - {setting.option for setting in SETTINGS}
    if missing:
        raise KeyError(sorted(missing)[0])
    return tuple(setting for setting in SETTINGS if setting.option in options)


def without(*options: str) -> tuple[Setting, ...]:
    """Return all settings but some."""
    return tuple(setting for setting in SETTINGS if setting.option not in options)


def moved(settings: Iterable[Setting], section: str, to: str) -> tuple[Setting, ...]:
    """Return the settings with those of one section setting another: ``training.lr`` -> ``teacher_training.lr``."""
    return tuple(
        Setting(**{**vars(setting), "key": f"{to}.{setting.key.removeprefix(section + '.')}"})
        if setting.key.startswith(f"{section}.")
        else setting
        for setting in settings
    )


def _start_values() -> dict[str, Any]:
    from compressor.config.settings import RunConfig

    values: dict[str, Any] = {}
    start = RunConfig()
    for item in fields(start):
        part = getattr(start, item.name)
        if is_dataclass(part):
            values.update({f"{item.name}.{inner.name}": getattr(part, inner.name) for inner in fields(part)})
        else:
            values[item.name] = part
    return values
