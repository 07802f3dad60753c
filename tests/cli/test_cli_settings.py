"""From what was typed to settings: precedence, origins, one value given twice, and a config that reads back."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from compressor.cli.options import SETTINGS, moved, pick, to_bytes, to_pool, to_seconds
from compressor.cli.settings import Given
from compressor.errors import UsageError


def _given(environ: dict[str, str] | None = None, **values: Any) -> Any:
    return Given(settings=SETTINGS, **values).resolved(environ=environ or {})


def test_each_place_wins_over_the_ones_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = tmp_path / "config" / "compress" / "config.toml"
    user.parent.mkdir(parents=True)
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    keys = ("lr", "momentum", "weight_decay", "decay", "ema_decay")
    user.write_text("[training]\n" + "".join(f"{key} = 0.1\n" for key in keys))
    first.write_text("[training]\n" + "".join(f"{key} = 0.02\n" for key in keys[:4]))
    second.write_text("[training]\n" + "".join(f"{key} = 0.03\n" for key in keys[:3]))
    environ = {"COMPRESS_LR": "0.04", "COMPRESS_SET": "training.momentum=0.04"}
    resolved = _given(environ, options={"lr": ["0.05"]}, config=[str(first), str(second)])
    training = resolved.config.training
    assert [getattr(training, key) for key in keys] == [0.05, 0.04, 0.03, 0.02, 0.1]
    origins = [resolved.origins[f"training.{key}"] for key in keys]
    assert origins == ["--lr", "COMPRESS_SET", str(second), str(first), str(user)]


def test_a_recipe_is_weaker_than_anything_the_user_writes() -> None:
    key = "training.epochs"
    assert _given().origins[key].startswith("recipe ")
    assert _given({"COMPRESS_EPOCHS": "3"}).origins[key] == "COMPRESS_EPOCHS"


def test_an_empty_recipe_is_unknown_when_typed_and_none_in_the_environment() -> None:
    with pytest.raises(UsageError, match="no recipe named ''"):
        _given(recipe="")
    assert _given({"COMPRESS_RECIPE": ""}).config == _given().config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"options": {"lr": ["0.1"]}, "assignments": ["training.lr=0.2"]}, "--lr says 0.1, --set says 0.2"),
        ({"options": {"lr": ["0.1", "0.2"]}}, "--lr says 0.1, --lr says 0.2"),
        ({"assignments": ["seed=1", "seed=2"]}, "seed is given twice"),
        ({"environ": {"COMPRESS_SEED": "1", "COMPRESS_SET": "seed=2"}}, "COMPRESS_SEED says 1, COMPRESS_SET says 2"),
    ],
)
def test_one_value_given_twice_with_different_contents_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _given(**values)


def test_one_value_given_twice_with_the_same_contents_is_taken() -> None:
    assert _given(options={"lr": ["0.1"]}, assignments=["training.lr=0.1"]).config.training.lr == 0.1


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("epochs", "ten", "--epochs must be a whole number, got 'ten'"),
        ("epochs", "1000000000000", "training.epochs must be 1 to 100,000, got 1000000000000"),
        ("lr", "fast", "--lr must be a number, got 'fast'"),
        ("lr", "nan", "training.lr must be > 0"),
        ("time-budget", "soon", "--time-budget must be a duration such as 90s, 30m or 1h30m, got 'soon'"),
        ("precision", "fp8", "--precision must be fp32 or bf16 or fp16, got 'fp8'"),
        ("seed", "-1", "seed must be 0 to 2147483647"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(option: str, text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        _given(options={option: [text]})
    assert message in refused.value.message


def test_a_variable_that_cannot_be_is_refused_by_its_own_name() -> None:
    with pytest.raises(UsageError, match="COMPRESS_EPOCHS must be a whole number, got 'ten'"):
        _given({"COMPRESS_EPOCHS": "ten"})


def test_every_option_reaches_its_key_from_the_command_line_and_from_its_variable() -> None:
    samples = {"a whole number": "8", "a number": "0.25", "a percentage": "8", "true or false": "true"}
    samples["a duration such as 90s, 30m or 1h30m"] = "90s"
    samples |= {"fresh, all or a whole number": "8", "an amount such as 500MB or 20GB": "2MB"}
    for setting in SETTINGS:
        text = setting.choices[-1] if setting.choices else samples.get(setting.kind.allowed, "word")
        text = "8" if setting.option == "imbalance" else text  # which cannot be below 1
        for resolved, origin in (
            (_given(options={setting.option: [text]}), f"--{setting.option}"),
            (_given({setting.variable: text}), setting.variable),
        ):
            assert resolved.origins[setting.key] == origin
            section, _, name = setting.key.rpartition(".")
            owner = getattr(resolved.config, section) if section else resolved.config
            expected: Any = {"8": 8, "0.25": 0.25, "true": True, "90s": 90.0, "2MB": 2_000_000}.get(text, text)
            assert getattr(owner, name) == expected


def test_durations_are_read_in_every_unit() -> None:
    texts = {"90": 90, "90s": 90, "30m": 1800, "1h30m": 5400, "2d": 172800, "0.5h": 1800}
    assert {text: to_seconds(text) for text in texts} == texts
    for wrong in ("", "m", "1x", "-3m", "1h 30m extra"):
        with pytest.raises(ValueError, match=f"^{wrong}$"):
            to_seconds(wrong)


def test_amounts_of_bytes_and_pools_are_read_as_people_write_them() -> None:
    texts = {"0": 0, "500000": 500_000, "200MB": 200_000_000, "1.5 gb": 1_500_000_000, "12b": 12}
    assert {text: to_bytes(text) for text in texts} == texts
    for wrong in ("2T", "-1MB", "much", "1e9"):
        with pytest.raises(ValueError, match=f"^{wrong}$"):
            to_bytes(wrong)
    assert [to_pool(text) for text in ("8", "ALL", "fresh")] == [8, "all", "fresh"]
    with pytest.raises(ValueError, match="invalid literal"):
        to_pool("some")


@pytest.mark.parametrize("value", ["0", "257", "-8"])
def test_a_pool_that_cannot_be_is_refused_by_name(value: str) -> None:
    with pytest.raises(UsageError, match=rf"data.augmentation_pool must be fresh, all, or 1 to 256, got {value}"):
        _given(options={"augmentation-pool": [value]})


def test_teach_moves_the_training_options_to_the_teacher() -> None:
    [epochs] = moved(pick("epochs"), "training", "teacher_training")
    assert (epochs.key, epochs.option) == ("teacher_training.epochs", "epochs")
    with pytest.raises(KeyError, match="epoch"):
        pick("epoch")


def test_print_config_reads_back_as_the_same_run(compress: Any, tmp_path: Path) -> None:
    asked = ("-m", "kd", "--set", "method.kd_temperature=2.5", "--lr", "0.3", "--time-budget", "30m", "--shots", "5")
    said = compress("distill", *asked, "--print-config")
    assert said.code == 0
    file = tmp_path / "printed.toml"
    file.write_text(said.out)
    assert tomllib.loads(said.out)["runtime"]["time_budget"] == 1800.0
    again = compress("distill", "--config", str(file), "--print-config", "--json")
    first = compress("distill", *asked, "--print-config", "--json")
    assert json.loads(again.out)["config"] == json.loads(first.out)["config"]
    assert set(json.loads(again.out)["origins"].values()) == {str(file)}


def test_print_config_says_where_each_value_comes_from(compress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_SEED", "4")
    lines = compress("distill", "--lr", "0.3", "--print-config").out.splitlines()
    assert "seed = 4  # COMPRESS_SEED" in lines
    assert "lr = 0.3  # --lr" in lines
    assert any(line.startswith("epochs = ") and "# recipe digits" in line for line in lines)
    assert 'name = "resnet32x4"  # default' in lines


def test_compare_and_teach_print_their_settings_too(compress: Any) -> None:
    teach = compress("teach", "--epochs", "7", "--print-config", "--json")
    assert json.loads(teach.out)["config"]["teacher_training.epochs"] == 7
    assert (
        json.loads(compress("compare", "--epochs", "7", "--print-config", "--json").out)["config"]["training.epochs"]
        == 7
    )


def test_init_writes_a_config_that_is_the_same_run_and_overwrites_nothing(compress: Any) -> None:
    said = compress("init", "mine.toml", "-m", "kd", "--lr", "0.3")
    assert (said.code, said.out) == (0, "mine.toml\n")
    text = Path("mine.toml").read_text()
    assert "lr = 0.3  # Learning rate at the start. (--lr)" in text
    ours = compress("distill", "--config", "mine.toml", "--print-config", "--json")
    typed = compress("distill", "-m", "kd", "--lr", "0.3", "--print-config", "--json")
    assert json.loads(ours.out)["config"] == json.loads(typed.out)["config"]
    again = compress("init", "mine.toml")
    assert again.code == 2
    assert again.err.startswith("error: mine.toml is already there\n")
    assert Path("mine.toml").read_text() == text


def test_a_misspelt_variable_is_warned_of_and_strangers_are_left_alone(
    compress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_EPOCH", "3")
    monkeypatch.setenv("COMPRESS_XYZZY_OF_ANOTHER_PROGRAM", "3")
    said = compress("list", "data")
    assert said.err == "warning: COMPRESS_EPOCH is not read; did you mean COMPRESS_EPOCHS?\n"
