"""Config files that are no good: broken, garbled, of another kind, or asking for what cannot be."""

import random
from collections.abc import Callable
from dataclasses import dataclass

SOUND = b"""seed = 1

[method]
name = "kd"
kd_weight = 0.5

[training]
epochs = 3
lr = 0.1
milestones = [0.5, 0.75]

[data]
source = "digits"
flip = false

[teacher]
name = "resnet8"
"""


@dataclass(frozen=True)
class BadConfig:
    """A file: what is wrong with it, and what a message must hold beside the file's name (the line, the key)."""

    kind: str
    content: bytes
    says: str = ""


def bad_configs(number: int, seed: int) -> list[BadConfig]:
    """Return so many files, all kinds in turn."""
    chance = random.Random(seed)
    fixed = [*_FIXED, *_VALUES]
    made = []
    for place in range(number - len(fixed)):
        maker = _DRAWN[place % len(_DRAWN)]
        made.append(maker(random.Random(chance.getrandbits(64))))
    return [*fixed, *made][:number]


def _line(text: str) -> bytes:
    return SOUND + f"\n[training]\n{text}\n".encode()


_HUGE = "9" * 4_000
_FIXED = (
    BadConfig("unknown key", b"[training]\nepoch = 3\n", ":2: unknown setting 'training.epoch'"),
    BadConfig("unknown table", b"seed = 1\n[trainings]\nepochs = 3\n", ":3: unknown setting 'trainings.epochs'"),
    BadConfig("table twice", SOUND + b"[training]\n", ":18: not a TOML file"),
    BadConfig("key twice", b"seed = 1\nseed = 2\n", ":2: not a TOML file"),
    BadConfig("broken line", b"seed = 1\n\n[training\nlr = 1\n", ":3: not a TOML file"),
    BadConfig("no value", b"seed =\n", ":1: not a TOML file"),
    BadConfig("no text", bytes(range(256)), "not a TOML file"),
    BadConfig("UTF-16", "seed = 1\n".encode("utf-16"), "not a TOML file"),
    BadConfig("latin letters", "data.source = 'über'\n".encode("latin-1"), "not a TOML file"),
    BadConfig("NUL", b"seed = 1\0\n", ":1: not a TOML file"),
    BadConfig("BOM twice", b"\xef\xbb\xbf\xef\xbb\xbfseed = 1\n", "not a TOML file"),
    BadConfig("lone CR", b"seed = 1\rtraining.lr = 1\n", "not a TOML file"),
    BadConfig("JSON", b'{"seed": 1}', ":1: not a TOML file"),
    BadConfig("YAML", b"training:\n  lr: 0.1\n", ":1: not a TOML file"),
    BadConfig("pickle", b"cos\nsystem\n(Vtouch hostile_token\ntR.", "not a TOML file"),
    BadConfig("array of tables", b"seed = 1\n[[training]]\nlr = 1\n", ":2: unknown setting 'training'"),
    BadConfig("no table", b"training = 3\n", ":1: unknown setting 'training'"),
    BadConfig("nested arrays", b"seed = " + b"[" * 1_500 + b"]" * 100, "not a TOML file"),
    BadConfig("arrays nested over lines", b"seed = " + b"[\n" * 200_000, "not a TOML file"),
    BadConfig("inline tables", b"seed = " + b"{a=" * 600, "not a TOML file"),
    BadConfig("dotted key", b"a" + b".a" * 400 + b" = 1\n", "unknown setting"),
    BadConfig(
        "dotted key without end", b"a" + b".a" * 400_000 + b" = 1\n", ":1: not a TOML file of settings: a line of"
    ),
    BadConfig("table without end", b"[a" + b".a" * 300_000 + b"]\n", ":1: not a TOML file of settings: a line of"),
    BadConfig("many tables", b"".join(b"[x%d]\n" % place for place in range(20_000)), "unknown setting 'x"),
    BadConfig("ten megabytes", SOUND + b"#" * 10_000_000, "has 10,000,"),
    BadConfig("date", b"[method]\nkd_weight = 1979-05-27\n", "method.kd_weight cannot be a date"),
    BadConfig("time", b"[data]\nsource = 07:32:00\n", "data.source"),
    BadConfig("digits", b"seed = " + b"9" * 1_900 + b"\n", ":1"),
    BadConfig("digits beyond Python's limit", b"seed = " + _HUGE.encode() * 2 + b"\n", ":1: not a TOML file"),
    BadConfig("hexadecimal digits", b"seed = 0x" + b"F" * 1_900 + b"\n", "seed must be a number of at most 300 digits"),
    BadConfig("digits for a method", b"[method]\nkd_weight = 0x" + b"F" * 1_900, "method.kd_weight must be a number"),
    BadConfig("NaN for a method", b"[method]\nkd_weight = nan\n", "method.kd_weight must be finite"),
)
_VALUES = tuple(
    BadConfig(f"{key} = {value}", f"seed = 1\n{table}{name} = {value}\n".encode(), says or key)
    for key, value, says in (
        ("training.epochs", "1000000000000", "training.epochs must be 1 to 100,000"),
        ("training.epochs", "-1", ""),
        ("training.epochs", "true", ""),
        ("training.epochs", '"many"', ""),
        ("training.epochs", "[3]", ""),
        ("training.epochs", "{a = 1}", "training.epochs.a"),
        ("training.lr", "1e308", "training.lr must be > 0"),
        ("training.lr", "nan", ""),
        ("training.lr", "inf", ""),
        ("training.lr", "-0.0", ""),
        ("training.batch_size", "1000000000", "training.batch_size must be 1 to 65,536"),
        ("training.milestones", "[0.5, [0.7]]", ""),
        ("training.milestones", "3", ""),
        ("training.optimizer", "3", ""),
        ("training.select", '"median"', ""),
        ("teacher_training.epochs", "0", ""),
        ("data.image_size", "1000000", "data.image_size must be 4 to 4096"),
        ("data.flip", '"perhaps"', ""),
        ("data.source", "7", ""),
        ("data.crop_scale", "0", ""),
        ("runtime.workers", "100000", "runtime.workers must be -1 to 256"),
        ("runtime.threads", "9223372036854775808", ""),
        ("runtime.time_budget", "-3", ""),
        ("seed", "-1", ""),
        ("seed", "9223372036854775808", "seed must be 0 to 2147483647"),
        ("seed", "1.5", ""),
        ("student.name", "[]", ""),
    )
    for table, name in [(f"[{key.partition('.')[0]}]\n", key.partition(".")[2])]
    if name
) + tuple(
    BadConfig(f"seed = {value}", f"\nseed = {value}\n".encode(), "seed")
    for value in ("-1", "9223372036854775808", "1.5", "[]")
)


def _garbled(chance: random.Random) -> BadConfig:
    data = bytearray(SOUND)
    for _ in range(chance.randint(1, 6)):
        data[chance.randrange(len(data))] = chance.choice(b"[]{}=\"'.,#\n\\\0\xff9x")
    return BadConfig("garbled", bytes(data))


def _spliced(chance: random.Random) -> BadConfig:
    lines = SOUND.splitlines(keepends=True)
    chance.shuffle(lines)
    return BadConfig("lines in another order", b"".join(lines[: chance.randint(1, len(lines))]))


def _random(chance: random.Random) -> BadConfig:
    return BadConfig("random bytes", chance.randbytes(chance.randint(1, 300)))


def _cut(chance: random.Random) -> BadConfig:
    return BadConfig("cut", SOUND[: chance.randrange(1, len(SOUND))] + chance.choice((b"", b"[", b'"""', b"'''")))


def _mistyped(chance: random.Random) -> BadConfig:
    key = chance.choice((b"epochs", b"lr", b"milestones", b"flip", b"source"))
    wrong = bytearray(key)
    wrong[chance.randrange(len(wrong))] = chance.choice(b"qxzj_")
    return BadConfig("mistyped key", SOUND.replace(key, bytes(wrong)), "unknown setting")


_DRAWN: tuple[Callable[[random.Random], BadConfig], ...] = (_garbled, _spliced, _random, _cut, _mistyped)
