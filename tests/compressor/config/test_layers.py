"""Where settings come from, who wins, and how mistakes are told."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from compressor.config.document import dotted, to_toml
from compressor.config.layers import Layer, checked, parse_assignment, read_file, resolve
from compressor.config.settings import RunConfig, TrainingConfig, differing_keys, flatten
from compressor.errors import UsageError

QUICK = budget(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def config_of(**values: Any) -> RunConfig:
    return resolve([Layer("test", {key.replace("__", "."): value for key, value in values.items()})]).config


def test_later_layers_win_and_say_so() -> None:
    layers = [
        Layer("user.toml", {"training.lr": 0.1, "seed": 1, "method.temperature": 2.0}),
        Layer("mine.toml", {"training.lr": 0.2, "seed": 2}),
        Layer("--seed", {"seed": 3}),
    ]
    resolved = resolve(layers)
    assert (resolved.config.training.lr, resolved.config.seed) == (0.2, 3)
    assert resolved.config.method.settings["temperature"] == 2.0
    assert resolved.origins["training.lr"] == "mine.toml"
    assert resolved.origins["seed"] == "--seed"
    assert resolved.origins["method.temperature"] == "user.toml"
    assert "training.ema_decay" not in resolved.origins


def test_recipes_that_apply_are_weaker_than_any_layer() -> None:
    resolved = resolve([Layer("--data", {"data.source": "digits"})])
    assert {"base", "digits"} <= set(resolved.recipes)
    assert resolved.origins["training.batch_size"] == "recipe digits"
    assert resolve([Layer("x", {"training.batch_size": 7})]).config.training.batch_size == 7


def test_recipe_with_more_conditions_wins_over_one_with_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    from compressor.config import recipes

    def recipe(name: str, lr: float, **when: tuple[str, ...]) -> recipes.Recipe:
        return recipes.Recipe(
            name=name, summary="", package="test", values={"training.lr": lr}, when=when, by_name=False
        )

    found = [
        recipe("z-none", 0.1),
        recipe("a-two", 0.3, data=("dig*",), method=("kd", "crd")),
        recipe("m-one", 0.2, data=("digits",)),
        recipe("other", 0.9, data=("cifar",), method=("kd",), teacher=("*",)),
    ]
    monkeypatch.setattr(recipes, "all_recipes", lambda: {item.name: item for item in found})
    values = {"data.source": "digits", "method.name": "kd"}
    resolved = resolve([Layer("x", values)])
    assert resolved.recipes == ("z-none", "m-one", "a-two")
    assert resolved.config.training.lr == 0.3
    assert resolve([Layer("x", {**values, "method.name": "sskd"})]).config.training.lr == 0.2


def test_named_recipe_comes_after_those_it_extends_and_before_files(monkeypatch: pytest.MonkeyPatch) -> None:
    from compressor.config import recipes

    def recipe(name: str, extends: tuple[str, ...], **values: Any) -> recipes.Recipe:
        return recipes.Recipe(name=name, summary="", package="test", values=values, extends=extends)

    found = [
        recipe("grand", (), **{"training.lr": 0.1, "training.epochs": 11, "seed": 5}),
        recipe("parent", ("grand",), **{"training.lr": 0.2}),
        recipe("child", ("parent",), **{"training.momentum": 0.5}),
    ]
    monkeypatch.setattr(recipes, "all_recipes", lambda: {item.name: item for item in found})
    resolved = resolve([Layer("file", {"seed": 6})], recipe="child")
    assert resolved.recipes == ("grand", "parent", "child")
    training = resolved.config.training
    assert (training.lr, training.epochs, training.momentum, resolved.config.seed) == (0.2, 11, 0.5, 6)
    with pytest.raises(UsageError, match="no recipe named 'chold'") as caught:
        resolve([], recipe="chold")
    assert "child" in str(caught.value.hint)


def test_setting_of_one_method_stays_with_it() -> None:
    layer = Layer("x", {"method.kd.temperature": 2.0, "method.name": "kd"})
    assert resolve([layer]).config.method.settings == {"temperature": 2.0}
    other = resolve([layer, Layer("y", {"method.name": "crd"})])
    assert "temperature" not in other.config.method.settings


def test_general_setting_overrules_an_earlier_one_of_the_method_and_not_a_later_one() -> None:
    own = Layer("recipe", {"method.kd.temperature": 2.0})
    general = Layer("--set", {"method.temperature": 3.0, "method.name": "kd"})
    assert resolve([own, general]).config.method.settings == {"temperature": 3.0}
    assert resolve([general, own]).config.method.settings == {"temperature": 2.0}


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("training.epoch", "training.epochs"),
        ("teacher.nam", "teacher.name"),
        ("data.val_splt", "data.val_split"),
        ("sed", "seed"),
    ],
)
def test_unknown_key_is_refused_with_origin_and_the_nearest(key: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"mine.toml: unknown setting '{key}'") as caught:
        checked({key: 1}, origin="mine.toml")
    assert near in str(caught.value.hint)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.epochs", "many", "training.epochs: .*given 'many'"),
        ("training.epochs", 0, "training.epochs must be 1 to 100,000, got 0"),
        ("training.epochs", 10**12, "training.epochs must be 1 to 100,000"),
        ("training.lr", 0.0, "training.lr must be > 0, got 0.0"),
        ("training.lr", float("nan"), "training.lr must be > 0, got nan"),
        ("training.lr", float("inf"), "training.lr must be > 0, got inf"),
        ("training.momentum", 1.0, r"training.momentum must be in \[0, 1\)"),
        ("training.milestones", [0.5, 0.2], "training.milestones must be in rising order"),
        ("training.milestones", [1.5], r"training.milestones must be shares of the epochs in \(0, 1\)"),
        ("training.batch_size", 10**9, "training.batch_size must be 1 to 65,536"),
        ("training.micro_batches", 1000, "training.micro_batches must be 1 to batch_size"),
        ("training.warmup_epochs", 10_000, "training.warmup_epochs must be fewer than epochs"),
        ("training.precision", "fp8", "training.precision: .*given 'fp8'"),
        ("training.select", "median", "training.select: .*given 'median'"),
        ("teacher_training.lr", -1.0, "teacher_training.lr must be > 0, got -1.0"),
        ("data.val_split", 0.7, r"data.val_split must be in \[0, 0.5\], got 0.7"),
        ("data.image_size", 10**6, "data.image_size must be 4 to 4096"),
        ("data.shots", 0, "data.shots must be >= 1"),
        ("data.fraction", 0.25, "data.fraction must be 1 to 100 percent, got 0.25"),
        ("data.imbalance", 0.5, "data.imbalance must be 1 to 1,000,000, got 0.5"),
        ("data.label_noise", 20, r"data.label_noise must be in \[0, 1\), got 20"),
        ("runtime.workers", 10**5, "runtime.workers must be -1 to 256"),
        ("runtime.processes", 0, "runtime.processes must be 1 to 1024"),
        ("runtime.time_budget", 0.0, "runtime.time_budget must be > 0 seconds"),
        ("seed", -1, "seed must be 0 to 2147483647, got -1"),
        ("seed", 2**63, "seed must be 0 to 2147483647"),
    ],
)
def test_value_of_the_wrong_kind_or_range_names_key_value_and_origin(key: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resolve([Layer("mine.toml", {key: value})])
    assert "(from mine.toml)" in str(caught.value)


def test_shots_and_a_fraction_contradict_each_other() -> None:
    with pytest.raises(UsageError, match=r"data.fraction must be 100 where data.shots is given, got 50.0"):
        resolve([Layer("x", {"data.shots": 5, "data.fraction": 50})])
    assert resolve([Layer("x", {"data.shots": 5, "data.fraction": 100})]).config.data.shots == 5


def test_a_scenario_is_part_of_a_runs_identity_and_its_default_value_changes_nothing() -> None:
    plain = resolve([]).config
    for key, value, usual in (("fraction", 50, 100), ("imbalance", 10, 1), ("label_noise", 0.2, 0)):
        assert resolve([Layer("x", {f"data.{key}": value})]).config.sha256 != plain.sha256
        assert resolve([Layer("x", {f"data.{key}": usual})]).config.sha256 == plain.sha256


def test_the_teachers_data_are_the_same_in_every_scenario() -> None:
    uneven = resolve([Layer("x", {"data.fraction": 50, "data.imbalance": 10, "data.label_noise": 0.2})]).config
    assert uneven.data.for_teacher() == resolve([]).config.data
    assert resolve([Layer("x", {"data.shots": 5})]).config.data.for_teacher() == resolve([]).config.data


def test_printed_settings_give_the_same_settings_when_read_again(tmp_path: Path) -> None:
    resolved = resolve(
        [
            Layer(
                "--set",
                {
                    "method.name": "kd",
                    "method.temperature": 2.5,
                    "data.source": 'a folder with "quotes" \\ and ümlauts',
                    "training.milestones": [0.25, 0.5],
                    "training.lr": 1e-7,
                    "data.shots": 3,
                    "seed": 17,
                },
            )
        ]
    )
    file = tmp_path / "printed.toml"
    text = to_toml(resolved.config, resolved.origins)
    file.write_text(text, encoding="utf-8")
    again = resolve([read_file(file)]).config
    assert again == resolved.config
    assert again.sha256 == resolved.config.sha256
    assert "temperature = 2.5  # --set" in text
    assert "momentum = 0.9  # recipe base" in text
    assert "ema_decay = 0.0  # default" in text


@QUICK
@given(
    st.fixed_dictionaries(
        {
            "seed": st.integers(0, 2**31 - 1),
            "training.lr": st.floats(1e-12, 1e9),
            "data.source": st.text(max_size=30),
            "training.milestones": st.lists(st.floats(0.01, 0.99), max_size=3).map(sorted),
            "data.flip": st.booleans(),
            "method.temperature": st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
        }
    )
)
def test_any_settings_survive_being_printed_and_read(tmp_path: Path, values: dict[str, Any]) -> None:
    config = resolve([Layer("x", values)]).config
    file = tmp_path / "round.toml"
    file.write_text(to_toml(config), encoding="utf-8")
    assert resolve([read_file(file)]).config == config


def test_settings_without_runtime_leave_it_out() -> None:
    assert not any(key.startswith("runtime") for key in dotted(RunConfig(), runtime=False))
    assert "[runtime]" not in to_toml(RunConfig(), runtime=False)


def test_identity_changes_with_every_setting_but_those_of_the_runtime() -> None:
    base = RunConfig()
    assert config_of(data__source="other").sha256 != config_of().sha256
    assert config_of(runtime__device="cpu", runtime__threads=3, runtime__save_every=1.0).sha256 == config_of().sha256
    assert "runtime" not in base.identity()
    changed = {"training.lr": 0.02, "training.nesterov": True, "seed": 1, "method.x": 1, "data.flip": True}
    hashes = {resolve([Layer("x", {key: value})]).config.sha256 for key, value in changed.items()}
    assert len(hashes | {config_of().sha256}) == len(changed) + 1


def test_identity_is_the_same_in_another_process_with_another_hash_seed() -> None:
    code = (
        "from compressor.config.layers import Layer, resolve;"
        "print(resolve([Layer('x', {'seed': 4, 'method.b': 1, 'method.a': [1, 2]})]).config.sha256)"
    )
    wanted = config_of(seed=4, method__a=[1, 2], method__b=1).sha256
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout.strip() == wanted


def test_config_is_read_without_torch() -> None:
    code = (
        "import sys; from compressor.config.layers import Layer, resolve; resolve([Layer('x', {'seed': 1})]);"
        "print(sorted({'torch', 'timm', 'compressor_zoo', 'compressor_plugins'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_differences_are_named_with_both_values() -> None:
    one, other = config_of(method__name="kd"), config_of(method__name="kd", method__temperature=2.0, seed=1)
    assert differing_keys(one, other) == ["method.temperature (default) -> 2.0", "seed 0 -> 1"]
    assert differing_keys(one, one) == []


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        TrainingConfig().lr = 1.0  # type: ignore[misc]  # that is the point


def test_flattening_turns_tables_into_dotted_keys() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": 2}, "e": 3}) == {"a.b.c": 1, "a.d": 2, "e": 3}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("seed=3", "seed", 3),
        ("training.lr = 1e-3", "training.lr", 1e-3),
        ("data.flip=false", "data.flip", False),
        ("data.source=torch/cifar10", "data.source", "torch/cifar10"),
        ('data.source="7"', "data.source", "7"),
        ("training.milestones=[0.5, 0.75]", "training.milestones", [0.5, 0.75]),
        ("method.kd.temperature=2", "method.kd.temperature", 2),
        ("data.source=a=b", "data.source", "a=b"),
    ],
)
def test_assignments_are_toml_or_plain_words(text: str, key: str, value: object) -> None:
    assert parse_assignment(text) == (key, value)


@pytest.mark.parametrize("text", ["seed", "", "=3", " = "])
def test_assignment_without_key_or_sign_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not KEY=VALUE"):
        parse_assignment(text)


@QUICK
@given(st.one_of(st.text(), st.text().map(lambda text: f"seed={text}"), st.text().map(lambda text: f"method.x={text}")))
def test_assignment_of_any_text_is_read_or_a_usage_error(text: str) -> None:
    try:
        key, _ = parse_assignment(text)
    except UsageError:
        return
    assert checked({key: 0}, origin="again") == {key: 0}


@QUICK
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(str.encode),
        st.recursive(st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=5).map(
            lambda value: f"seed = {value!r}\n[training]\nlr = {value!r}".encode()
        ),
    )
)
def test_file_of_any_bytes_is_read_or_a_usage_error(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "any.toml"
    file.write_bytes(data)
    try:
        layer = read_file(file)
        resolve([layer])
    except UsageError:
        return
    assert checked(layer.values, origin="again") == layer.values


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"seed = ", "not a TOML file"),
        (b"seed = 1\nseed = 2\n", "not a TOML file"),
        (b"\xff\xfe", "not a TOML file"),
        (b"a = " + b"[" * 100_000, "not a TOML file"),
        (b"#" * 1_000_001, "has 1,000,001 bytes; more than 1,000,000 is not a config"),
        (b"[training]\nlearning_rate = 1", "unknown setting 'training.learning_rate'"),
        (b"[[training]]\nlr = 1", "unknown setting 'training'"),
        (b"training = 3", "unknown setting 'training'"),
    ],
    ids=["unfinished", "twice", "not-utf8", "deep", "large", "unknown", "array", "no-table"],
)
def test_file_that_is_no_config_says_why_and_where(data: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=message) as caught:
        read_file(file)
    assert "bad.toml" in str(caught.value)


def test_file_with_byte_order_mark_and_windows_line_ends_is_read(tmp_path: Path) -> None:
    file = tmp_path / "windows.toml"
    file.write_bytes(b"\xef\xbb\xbfseed = 5\r\n[training]\r\nlr = 0.5\r\n")
    assert read_file(file).values == {"seed": 5, "training.lr": 0.5}


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the config file .*none\.toml: No such file"):
        read_file(tmp_path / "none.toml")
