"""Golden transcripts: the same fabricated events, told to a terminal, to a log, as JSON and quietly."""

import io
import re
from dataclasses import dataclass
from typing import Any

import pytest

from compressor.cli.faults import fault_of
from compressor.cli.listeners import Lines, Quiet, listening
from compressor.cli.live import Live, bar, epoch_line, fact
from compressor.cli.manner import Manner, is_terminal, read_manner, wants_color, width
from compressor.cli.output import Output
from compressor.cli.summary import Spent, done_block, done_line, next_compare
from compressor.cli.wording import big, duration, size, stamp
from compressor.errors import InputError, UsageError
from compressor.events import EpochDone, Event, Fact, LaneDone, LaneFailed, PhaseStarted, Progress, Saved, Warned

PLAIN = Manner()
MOMENT = 1795185841.0  # 2026-11-20T14:44:01Z, by `date -u -d 2026-11-20T14:44:01Z +%s`
TERMS = {"kd": 1.1, "ce": 0.32}
PACE: dict[str, float] = {"images_per_second": 212.0, "data_wait": 0.03, "seconds_left": 400.0}
HEADING = (
    Fact(title="Teacher", text="resnet32x4   7.4 M params   top-1 97.2 on held-out images   trained here"),
    Fact(lane="kd s0", title="Run", text="runs/resnet8x4-resnet32x4-digits-kd-s0-3f9a1c   (new)"),
)


def _progress(**changes: Any) -> Progress:
    values = {"lane": "kd s0", "phase": "student", "epoch": 7, "epochs": 30, "step": 63, "steps": 270}
    return Progress(**{**values, "loss": 1.42, "terms": TERMS, **PACE, **changes})


def _epoch(**changes: Any) -> EpochDone:
    values = {"lane": "kd s0", "phase": "student", "epoch": 7, "epochs": 30, "step": 63, "steps": 270}
    seen = {"lr": 0.087, "val_top1": 71.3, "val_loss": 1.1, "best_top1": 72.1, "best_epoch": 6}
    return EpochDone(**{**values, "loss": 1.42, "terms": TERMS, **seen, **PACE, **changes})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def _output(manner: Manner = PLAIN, *, terminal: bool = False, **environ: str) -> Output:
    kind = Terminal if terminal else io.StringIO
    return Output(manner, stdout=kind(), stderr=kind(), environ={"COLUMNS": "80", "TERM": "xterm", **environ})


def _said(output: Output) -> str:
    assert isinstance(output.stderr, io.StringIO)
    return output.stderr.getvalue()


def _told(listener: Any, *events: Event) -> None:
    for event in events:
        listener(event)


def test_a_log_gets_one_line_an_epoch_with_time_and_full_names() -> None:
    output = _output()
    lines = Lines(output, now=lambda: MOMENT, elapsed=Clock())
    _told(lines, *HEADING, PhaseStarted(lane="kd s0", phase="student", step=0, steps=270, epochs=30))
    _told(lines, _progress(), Saved(lane="kd s0", step=63, path="x", seconds=0.1), _epoch())
    assert _said(output).splitlines() == [
        "2026-11-20T14:44:01Z teacher resnet32x4 7.4 M params top-1 97.2 on held-out images trained here",
        "2026-11-20T14:44:01Z run runs/resnet8x4-resnet32x4-digits-kd-s0-3f9a1c (new)",
        "2026-11-20T14:44:01Z epoch=7/30 step=63/270 loss=1.42 kd=1.1 ce=0.32 val_top1=71.3 best=72.1 lr=0.087 "
        "img_s=212 eta_s=400",
    ]


def test_a_log_gets_a_line_a_minute_inside_a_long_epoch() -> None:
    output, clock = _output(), Clock()
    lines = Lines(output, now=lambda: MOMENT, elapsed=clock)
    for clock.now in (10.0, 59.9, 60.0, 70.0, 119.0, 120.5):
        lines(_progress(step=round(clock.now)))
    assert re.findall(r"step=(\d+)/", _said(output)) == ["60", "120"]


def test_a_log_names_the_lane_when_there_are_many_and_the_phase_when_it_is_not_the_students() -> None:
    output = _output()
    many = Lines(output, many=True, now=lambda: MOMENT, elapsed=Clock())
    one = Lines(output, now=lambda: MOMENT, elapsed=Clock())
    _told(many, _epoch(), LaneDone(lane="kd s0", run="runs/x", metrics={"top1": 84.94}))
    _told(one, _epoch(lane="teacher"), _epoch(phase="head"))
    starts = [line.split(" ")[1:3] for line in _said(output).splitlines()]
    assert starts == [
        ["lane=kd/s0", "epoch=7/30"],
        ["lane=kd/s0", "done"],
        ["lane=teacher", "epoch=7/30"],
        ["phase=head", "epoch=7/30"],
    ]
    assert "done top1=84.9 run=runs/x" in _said(output)


def test_a_log_has_no_escape_no_carriage_return_and_no_long_line() -> None:
    output = _output(FORCE_COLOR="")
    lines = Lines(output, many=True, now=lambda: MOMENT, elapsed=Clock())
    crowd = {f"a_rather_long_term_{number}": 0.123456789 for number in range(30)}
    _told(lines, Fact(title="Data", text="words " * 100), _epoch(terms=crowd), Warned(message="long " * 100))
    output.fail(fault_of(InputError("a\x1b[31m\r\nb " * 80, hint="c " * 200)))
    said = _said(output)
    assert "\x1b" not in said
    assert "\r" not in said
    assert max(map(len, said.splitlines())) <= 200


@pytest.mark.parametrize("columns", [80, 120])
def test_the_live_line_shows_bar_terms_pace_and_time_left(columns: int) -> None:
    output = _output(terminal=True, COLUMNS=str(columns), NO_COLOR="1")
    live = Live(output, now=lambda: MOMENT)
    assert live.picture().plain == ""
    _told(live, PhaseStarted(lane="kd s0", phase="student", step=0, steps=270, epochs=30), _epoch(epoch=6), _progress())
    first, second = live.picture().plain.splitlines()
    assert re.fullmatch(r"epoch  7/30 \[#+-+\] loss 1\.42 \(kd 1\.10 ce 0\.32\)  212 img/s", first)
    assert first.count("#") / (first.count("#") + first.count("-")) == pytest.approx(63 / 270, abs=0.03)
    assert re.fullmatch(
        r"  val top-1 71\.3 \(best 72\.1 @6\)   lr 0\.087   data wait 3 %   left 6m40s, ~\d\d:\d\d", second
    )
    assert max(len(first), len(second)) <= columns


def test_a_narrow_terminal_never_gets_a_line_that_wraps() -> None:
    output = _output(terminal=True, COLUMNS="44")
    live = Live(output, now=lambda: MOMENT)
    _told(live, _epoch(), _progress(terms={f"term{n}": 1.0 for n in range(9)}))
    assert max(map(len, live.picture().plain.splitlines())) <= 44


def test_each_epoch_leaves_one_line_above_the_live_line() -> None:
    output = _output(terminal=True, NO_COLOR="1")
    with Live(output, now=lambda: MOMENT) as live:
        _told(live, *HEADING, _epoch(epoch=6, best_top1=70.0, best_epoch=5), _epoch())
    lines = [_plain(line) for line in _said(output).splitlines()]
    assert [line for line in lines if line.startswith("epoch")] == [
        "epoch  6/30  loss 1.42 (kd 1.10 ce 0.32)  val 71.3 (best 70.0 @5)  lr 0.087",
        "epoch  7/30  loss 1.42 (kd 1.10 ce 0.32)  val 71.3 (best 72.1 @6)  lr 0.087",
    ]
    assert lines[0].startswith("Teacher  resnet32x4")
    assert output.above is None


def test_the_line_of_an_epoch_leaves_out_what_matters_least_before_it_would_wrap() -> None:
    event = _epoch(epochs=300, lr=5e-05, terms={"ce": 0.1, "kd": 1.2, "ss": 0.5, "transform": 2.0})
    head = "epoch   7/300  loss 1.42 (ce 0.10 kd 1.20 ss 0.50 transform 2.00)  val 71.3"
    assert [epoch_line(event, columns=columns) for columns in (120, 97, 80, 20)] == [
        f"{head} (best 72.1 @6)  lr 5e-05",
        f"{head} (best 72.1 @6)",
        head,
        "epoch   7/300  loss ",
    ]


def test_between_the_last_epoch_and_the_result_the_live_line_says_what_happens() -> None:
    live = Live(_output(terminal=True), now=lambda: MOMENT)
    _told(live, _progress(lane="teacher", epoch=30), _epoch(lane="teacher", epoch=30))
    assert live.picture().plain == ""
    _told(live, _progress(epoch=30, step=269), _epoch(epoch=30, step=270))
    assert live.picture().plain == "finishing: test images, latency, a fresh process loads the student"
    _told(live, LaneDone(lane="kd s0", run="runs/x", metrics={"top1": 84.9}))
    assert live.picture().plain == ""


def test_many_lanes_are_drawn_as_a_board() -> None:
    output = _output(terminal=True)
    with Live(output, many=True, now=lambda: MOMENT) as live:
        _told(live, *HEADING, *HEADING)
        _told(live, LaneDone(lane="scratch s0", run="x", metrics={"top1": 78.1}))
        _told(live, _epoch(lane="kd s0"), _progress(lane="kd s1", epoch=12))
        _told(live, LaneFailed(lane="dkd s0", message="loss became NaN at step 3", hint="--lr 0.2"))
        rows = live.picture().plain.splitlines()
        _told(
            live, _progress(lane="dkd head", phase="head"), PhaseStarted(lane="x", phase="y", step=0, steps=1, epochs=1)
        )
        assert live.picture().plain.splitlines()[3].startswith("dkd head epoch  7/30 [")
        _told(live, _progress(lane="teacher"))
        assert live.picture().plain.splitlines()[3].startswith("teacher epoch  7/30 [")
    assert rows[3].startswith("epoch 12/30 [")
    assert rows[:3] == [
        "  scratch  s0 done 78.1",
        "  kd       s0 running 7/30 71.3 | s1 running 12/30",
        "  dkd      s0 failed",
    ]
    assert _plain(_said(output)).count("Teacher  resnet32x4") == 1
    assert "Run " not in _plain(_said(output))
    assert "warning: dkd s0 failed: loss became NaN at step 3 (--lr 0.2)" in _plain(_said(output))
    assert "epoch" not in _plain(_said(output)).split("warning")[0].replace(rows[3], "")


def test_quiet_says_warnings_and_nothing_else() -> None:
    output = _output(Manner(quiet=True))
    with listening(output) as listener:
        assert isinstance(listener, Quiet)
        _told(listener, *HEADING, _epoch(), _progress(), Warned(message="one seed proves little"))
    assert _said(output) == "warning: one seed proves little\n"


@pytest.mark.parametrize(
    ("manner", "terminal", "environ", "kind"),
    [
        (Manner(), True, {}, Live),
        (Manner(progress=False), True, {}, Lines),
        (Manner(), True, {"TERM": "dumb"}, Lines),
        (Manner(), True, {"CI": "true"}, Lines),
        (Manner(), False, {}, Lines),
        (Manner(), False, {"FORCE_COLOR": "1"}, Lines),
        (Manner(quiet=True), True, {}, Quiet),
        (Manner(json=True), False, {}, Lines),
    ],
)
def test_the_listener_suits_the_streams(manner: Manner, terminal: bool, environ: dict[str, str], kind: type) -> None:
    with listening(_output(manner, terminal=terminal, **environ)) as listener:
        assert type(listener) is kind


@pytest.mark.parametrize(
    ("terminal", "color", "environ", "colored"),
    [
        (True, "auto", {}, True),
        (True, "auto", {"NO_COLOR": "1"}, False),
        (True, "auto", {"TERM": "dumb"}, False),
        (True, "never", {}, False),
        (False, "auto", {}, False),
        (False, "auto", {"FORCE_COLOR": "1"}, True),
        (False, "always", {"NO_COLOR": "1"}, True),
        (True, "auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colours_follow_the_conventions(terminal: bool, color: str, environ: dict[str, str], colored: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    assert wants_color(stream, color, environ) is colored
    output = Output(Manner(color=color), io.StringIO(), stream, environ)
    output.warn("x")
    assert ("\x1b" in stream.getvalue()) is colored


def test_without_colours_a_live_terminal_gets_no_colour_codes() -> None:
    output = _output(terminal=True, NO_COLOR="1")
    with Live(output, now=lambda: MOMENT) as live:
        _told(live, _epoch(), _progress(), Warned(message="x"))
    assert re.findall(r"\x1b\[[0-9;]*m", _said(output)) == []


def test_letters_that_the_stream_does_not_have_become_question_marks() -> None:
    raw = io.BytesIO()
    output = Output(Manner(), io.StringIO(), io.TextIOWrapper(raw, encoding="ascii"), {})
    output.talk("84.9 ± 0.5")
    assert raw.getvalue() == b"84.9 ? 0.5\n"


def test_global_options_are_found_before_and_behind_the_command() -> None:
    asked = Manner(json=True, quiet=True, verbose=True, color="never", progress=False, debug=True)
    line = "--json -qv distill --no-progress --color never --debug"
    assert read_manner(line.split(), {}) == asked
    assert read_manner(["list", "--", "--json"], {}) == Manner()
    environ = {"COMPRESS_JSON": "1", "COMPRESS_QUIET": "0", "COMPRESS_COLOR": "always"}
    assert read_manner([], environ) == Manner(json=True, color="always")
    assert read_manner(["--color=auto"], environ).color == "auto"


def test_width_follows_columns_and_never_falls_below_40() -> None:
    assert [width({"COLUMNS": text}) for text in ("120", "10", "80")] == [120, 40, 80]


def test_a_closed_stream_is_no_terminal() -> None:
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    assert is_terminal(closed, {}) is False


def test_an_error_is_two_lines_and_the_place_only_with_verbose() -> None:
    plain, verbose, debug = _output(), _output(Manner(verbose=True)), _output(Manner(debug=True))
    try:
        raise UsageError("no distiller named 'kdd'", hint="did you mean kd?")
    except UsageError as error:
        fault = fault_of(error)
    for output in (plain, verbose, debug):
        output.fail(fault)
    assert _said(plain) == "error: no distiller named 'kdd'\nhint:  did you mean kd?\n"
    assert _said(verbose).splitlines()[2].startswith("where: File ")
    assert "Traceback (most recent call last)" in _said(debug)


DOCUMENT: dict[str, Any] = {
    "status": "done",
    "run": "runs/x",
    "method": "sskd",
    "metrics": {"top1": 84.94, "teacher_top1": 91.8, "agreement": 88.2, "ece": 0.0312},
    "student": {
        "folder": "runs/x/student",
        "load": "timm.create_model('local-dir:runs/x/student', pretrained=True)",
        "parameters": 5_000_000,
        "latency_ms": {"median": 7.94, "threads": 2, "runs": 200},
    },
    "teacher": {"parameters": 21_300_000, "latency_ms": {"median": 24.1}},
    "cost": {"train_seconds": 500.0, "peak_bytes": 1.1e9},
}


def test_the_done_block_says_worth_cost_place_and_next_step() -> None:
    following = next_compare(DOCUMENT, "my data", "resnet34", "resnet10t")
    assert done_block(DOCUMENT, Spent(531.2, 1003.4), next_command=following).splitlines() == [
        "Done in 8m51s (1,003 CPU-seconds, peak 1.1 GB)",
        "  student top-1  84.9   teacher 91.8   agreement 88.2 %   ECE 0.031",
        "  size 5.0 M vs 21.3 M",
        "  latency 7.9 ms vs 24.1 ms (batch 1, 2 threads, median of 200)",
        "  model   runs/x/student",
        "  load    timm.create_model('local-dir:runs/x/student', pretrained=True)",
        "  next    compress compare --methods kd,sskd -t resnet34 -s resnet10t -d 'my data' --seeds 3   "
        "(one seed proves little)",
    ]
    assert done_line(DOCUMENT, Spent(531.2, 1003.4)) == "done top1=84.9 teacher=91.8 seconds=531 cpu_seconds=1003"


def test_the_done_block_of_an_uneven_run_tells_its_groups() -> None:
    groups = {"many_top1": 91.25, "few_top1": 20.0}  # no class is medium
    uneven = {**DOCUMENT, "metrics": {**DOCUMENT["metrics"], **groups}}
    block = done_block(uneven, Spent(1.0, 1.0), next_command="n").splitlines()
    assert block[2] == "  top-1 by training images  many 91.2   few 20.0"


def test_the_done_block_of_a_run_without_a_teacher_names_none() -> None:
    alone = {**DOCUMENT, "teacher": None, "metrics": {"top1": 84.94, "ece": 0.03}}
    block = done_block(alone, Spent(1.0, 1.0, before=True), next_command="n")
    assert block.startswith("Done before (trained in 8m20s)")
    assert " vs " not in block
    assert "teacher" not in block


def test_numbers_and_times_read_well() -> None:
    times = [duration(value) for value in (3.21, 59.6, 531.2, 7500.0, float("inf"), -1.0)]
    assert times == ["3.2s", "1m00s", "8m51s", "2h05m", "?", "?"]
    assert [big(value) for value in (None, 0, 999, 1500, 21_300_000, 3.7e9)] == [
        "-",
        "0",
        "999",
        "1.5 k",
        "21.3 M",
        "3.7 G",
    ]
    assert [size(value) for value in (12, 41_000_000)] == ["12 B", "41.0 MB"]
    assert stamp(MOMENT) == "2026-11-20T14:44:01Z"
    assert bar(0.5, 8) == "[####----]"
    assert bar(7.0, 4) == "[####]"


def test_a_long_fact_hangs_under_its_title() -> None:
    text = fact(Fact(title="Data", text="word " * 20), 40)
    first, *others = text.splitlines()
    assert first.startswith("Data     word")
    assert all(line.startswith(" " * 9 + "word") for line in others)
    assert max(map(len, text.splitlines())) <= 40


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
