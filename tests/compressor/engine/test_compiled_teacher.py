"""Compiled convolutions of the teacher: taken where they were faster, the same answers, and never in a run's way."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import Recorder, stop_after, student_sha, tiny_config, tiny_run
from torch import Tensor, nn

import compressor.engine.compiled_teacher
import compressor.engine.convolution_times
from compressor.cache import cache_folder
from compressor.engine.compiling import UNTRIED, CannotCompile, Compiler
from compressor.engine.convolution_times import ConvolutionTimes, Layer, this_machine
from compressor.engine.history import read_run
from compressor.engine.rehearsal import rehearse
from compressor.errors import InputError, Stopped
from compressor.events import Fact, Warned
from compressor.models.winograd import Kernel, WinogradConvolution, uncompiled


class Looking:
    """Compiles nothing, and says whether it may."""

    def __init__(self, looking: bool) -> None:
        self.looking = looking

    def __call__(self, kernel: Kernel, examples: Sequence[Tensor]) -> Kernel:
        return uncompiled(kernel, examples)


Plant = Callable[[Callable[[Layer], float]], None]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Have nothing compiled, and minimal filtering take as long as is said."""

    def plant(seconds: Callable[[Layer], float]) -> None:
        def measured(net: nn.Module, pictures: Tensor) -> float:
            net(pictures)
            if not isinstance(net, WinogradConvolution):
                return 1.0
            return seconds(Layer.of(net.convolution, (pictures.shape[2], pictures.shape[3])))

        monkeypatch.setattr(compressor.engine.convolution_times, "_seconds", measured)
        monkeypatch.setattr(
            compressor.engine.compiled_teacher, "Compiler", lambda _machine, *, looking=False: Looking(looking)
        )

    return plant


def teacher_texts(recorder: Recorder) -> list[str]:
    return [fact.text for fact in recorder.of(Fact) if fact.lane == "teacher"]


@pytest.mark.usefixtures("tiny")
def test_a_run_with_compiled_convolutions_follows_the_one_without(planted: Plant) -> None:
    planted(lambda layer: 0.5 if layer.height > 2 else 2.0)
    recorder = Recorder()
    fast = tiny_run("kd", runtime__compile_teacher="on", out="fast", listener=recorder)
    slow = tiny_run("kd", runtime__compile_teacher="off", out="slow")
    trying, chosen = teacher_texts(recorder)
    assert trying.startswith("trying compiled convolutions for ")
    assert chosen.endswith("3x3 convolutions compiled (minimal filtering), measured 2.0 times as fast")
    losses = [[float(row["train_loss"]) for row in read_run(Path(run)).history] for run in ("fast", "slow")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert fast.values["teacher"]["sha256"] == slow.values["teacher"]["sha256"]


@pytest.mark.usefixtures("tiny")
def test_what_was_measured_is_kept_and_a_stopped_run_comes_to_the_same_student(
    planted: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(lambda _: 0.5)
    whole = tiny_run("kd", runtime__compile_teacher="on", out="whole")
    stop_after(monkeypatch, 4)
    with pytest.raises(Stopped):
        tiny_run("kd", runtime__compile_teacher="on")
    stop_after(monkeypatch, None)
    planted(lambda _: 9.0)  # would be chosen otherwise now
    recorder = Recorder()
    again = tiny_run("kd", runtime__compile_teacher="on", runtime__strict=True, listener=recorder)
    assert student_sha(again) == student_sha(whole)
    assert len(teacher_texts(recorder)) == 1
    assert recorder.of(Warned) == []


@pytest.mark.usefixtures("tiny")
def test_another_form_than_at_the_beginning_is_told_and_refused_when_strict(
    planted: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(lambda _: 0.5)
    stop_after(monkeypatch, 3)
    with pytest.raises(Stopped):
        tiny_run("kd", runtime__compile_teacher="on")
    stop_after(monkeypatch, None)
    text = "the teacher answers in another form than when this was begun"
    with pytest.raises(InputError, match=text):
        tiny_run("kd", runtime__compile_teacher="off", runtime__strict=True)
    recorder = Recorder()
    tiny_run("kd", runtime__compile_teacher="off", listener=recorder)
    assert [warning.message.startswith(text) for warning in recorder.of(Warned)] == [True]


@pytest.mark.usefixtures("tiny")
def test_where_nothing_is_faster_the_teacher_stays_as_it_stands(planted: Plant) -> None:
    planted(lambda _: 0.95)
    recorder = Recorder()
    same = tiny_run("kd", runtime__compile_teacher="on", out="a", listener=recorder)
    assert teacher_texts(recorder)[-1] == "no convolution is faster compiled: as it stands"
    assert student_sha(same) == student_sha(tiny_run("kd", out="b"))


class Refusing:
    """A machine without a compiler."""

    def __init__(self, machine: object, *, looking: bool = False) -> None:
        self.machine, self.looking = machine, looking

    def __call__(self, kernel: object, examples: Sequence[Tensor]) -> object:
        raise CannotCompile("InvalidCxxCompiler: no working compiler")


@pytest.mark.usefixtures("tiny")
def test_without_a_compiler_only_speed_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressor.engine.compiled_teacher, "Compiler", Refusing)
    recorder = Recorder()
    result = tiny_run("kd", runtime__compile_teacher="on", listener=recorder)
    [warning] = recorder.of(Warned)
    assert warning.message == (
        "the teacher's convolutions are not compiled, only speed is lost (InvalidCxxCompiler: no working compiler)"
    )
    assert student_sha(result) == student_sha(tiny_run("kd", out="b"))


@pytest.mark.usefixtures("tiny")
def test_a_signal_that_ends_the_compiler_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressor.engine.compiled_teacher, "Compiler", Refusing)
    monkeypatch.setattr("compressor.engine.runs.StopRequest.heard", property(lambda _: True))
    with pytest.raises(Stopped, match="step 0"):
        tiny_run("kd", runtime__compile_teacher="on")


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "changes",
    [{}, {"runtime__compile_teacher": "off"}, {"runtime__compile_teacher": "on", "runtime__plain": True}],
)
def test_short_plain_and_refused_runs_do_not_compile(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressor.engine.compiled_teacher, "_compiled", None)
    tiny_run("kd", training__epochs=1, **changes)


@pytest.mark.usefixtures("tiny")
def test_a_long_run_compiles_by_itself(planted: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(lambda _: 0.5)
    monkeypatch.setattr(compressor.engine.compiled_teacher, "LEAST_MULTIPLY_ADDS", 1)
    recorder = Recorder()
    tiny_run("kd", training__epochs=1, listener=recorder)
    assert "compiled (minimal filtering)" in teacher_texts(recorder)[-1]


@pytest.mark.usefixtures("tiny")
def test_a_form_that_answers_otherwise_is_left_out(planted: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(lambda _: 0.5)
    wrong = WinogradConvolution.forward
    monkeypatch.setattr(WinogradConvolution, "forward", lambda self, pictures: 2 * wrong(self, pictures))
    recorder = Recorder()
    result = tiny_run("kd", runtime__compile_teacher="on", listener=recorder)
    [warning] = recorder.of(Warned)
    assert warning.message == "compiled convolutions give other logits and are left out; only speed is lost"
    assert student_sha(result) == student_sha(tiny_run("kd", out="b"))


@pytest.mark.usefixtures("tiny")
def test_a_rehearsal_takes_what_is_kept_and_writes_nothing(planted: Plant) -> None:
    planted(lambda _: 0.5)
    config, folder = tiny_config("kd", runtime__compile_teacher="on"), cache_folder()
    before = sorted(folder.rglob("*"))
    untried = Recorder()
    rehearse(config, listener=untried)
    assert [UNTRIED in warning.message for warning in untried.of(Warned)] == [True]
    assert sorted(folder.rglob("*")) == before
    tiny_run("kd", runtime__compile_teacher="on")
    tried = Recorder()
    rehearse(config, listener=tried)
    assert tried.of(Warned) == []
    assert "compiled (minimal filtering)" in teacher_texts(tried)[-1]


LAYER = Layer(4, 4, 8, 8)


@pytest.mark.parametrize(
    "content",
    [None, "", "[]", "{}", '{"schema": 1}', '{"schema": 1, "machine": {"threads": 1}, "seconds": {"4-4-8-8": 3}}'],
)
def test_times_that_are_not_whole_are_measured_again(content: str | None, planted: Plant, tmp_path: Path) -> None:
    planted(lambda _: 0.25)
    path, machine = tmp_path / "times" / "a.json", {"threads": 1}
    if content is not None:
        path.parent.mkdir()
        path.write_text(content)
    times = ConvolutionTimes(path, machine)
    assert LAYER not in times
    times.measure(LAYER, uncompiled)  # type: ignore[arg-type]  # what a compiler does is not looked at
    times.keep()
    kept = ConvolutionTimes(path, machine)
    assert kept.gain(LAYER) == times.gain(LAYER) == 4.0
    assert LAYER not in ConvolutionTimes(path, {"threads": 2})
    assert json.loads(path.read_text())["seconds"] == {"4-4-8-8": {"filtered": 0.25, "summed": 1.0}}


def test_measuring_draws_no_random_numbers(planted: Plant, tmp_path: Path) -> None:
    planted(lambda _: 0.25)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ConvolutionTimes(tmp_path / "a.json", {}).measure(LAYER, uncompiled)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_a_program_is_compiled_once_for_a_machine_and_not_run_when_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16, 3, padding=1).eval().requires_grad_(False)
    pictures = torch.randn(70, 16, 12, 12)
    try:
        compiled = WinogradConvolution(layer, (12, 12), Compiler(this_machine()))
    except CannotCompile as cause:
        pytest.skip(f"no C++ compiler: {cause}")
    expected = layer.double()(pictures.double())
    layer.float()
    assert (compiled(pictures) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert torch.equal(compiled(pictures[60:61]), compiled(pictures)[60:61])
    monkeypatch.setattr("compressor.engine.compiling._compile", _refuse)
    again = WinogradConvolution(layer, (12, 12), Compiler(this_machine()))
    assert torch.equal(again(pictures), compiled(pictures))
    looking = WinogradConvolution(layer, (12, 12), Compiler(this_machine(), looking=True))
    assert torch.equal(looking(pictures), compiled(pictures))
    with pytest.raises(CannotCompile, match="not tried on this machine yet"):
        WinogradConvolution(layer, (16, 12), Compiler(this_machine(), looking=True))
    programs = sorted((tmp_path / "compress" / "programs").glob("*/kernel.pt2"))
    assert len(programs) == 2
    for program in programs:
        content = bytearray(program.read_bytes())
        content[len(content) // 2] ^= 1
        program.write_bytes(content)
    with pytest.raises(CannotCompile, match="was asked"):
        WinogradConvolution(layer, (12, 12), Compiler(this_machine()))
    with pytest.raises(CannotCompile, match="was asked"):
        WinogradConvolution(layer, (12, 12), Compiler({"another": "machine"}))


def _refuse(*_: object) -> None:
    raise CannotCompile("compiling was asked for")


def test_a_broken_compiler_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def broken(*_: object, **_more: object) -> None:
        raise RuntimeError("\n  C++ compile error\n\nCommand: g++ ...")

    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", broken)
    with pytest.raises(CannotCompile, match=r"^RuntimeError: C\+\+ compile error$"):
        Compiler({})(lambda given, kept: kept.copy_(given), (torch.zeros(2), torch.zeros(2)))
    assert not list(tmp_path.rglob("*.pt2"))


def test_auto_is_the_default() -> None:
    assert tiny_config("kd").runtime.compile_teacher == "auto"
