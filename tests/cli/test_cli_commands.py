"""Each command calls one function and prints what it returned: the functions are stand-ins here."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compressor.errors import GateError
from compressor.storage import RunLock

RESULT: dict[str, Any] = {
    "schema": 1,
    "status": "done",
    "exit": 0,
    "run": "runs/x",
    "method": "kd",
    "seed": 0,
    "config_sha256": "0" * 64,
    "metrics": {"top1": 84.94, "teacher_top1": 91.8, "agreement": 88.2, "ece": 0.0312},
    "student": {
        "folder": "runs/x/student",
        "name": "resnet10t",
        "macs": 1_100_000_000,
        "load": "timm.create_model('local-dir:runs/x/student', pretrained=True)",
        "parameters": 5_000_000,
        "latency_ms": {"median": 7.94, "threads": 2, "runs": 200},
    },
    "teacher": {
        "name": "resnet34",
        "parameters": 21_300_000,
        "macs": 3_700_000_000,
        "latency_ms": {"median": 24.1},
    },
    "cost": {"train_seconds": 500.0, "peak_bytes": 1.1e9, "views": 1},
}


def _row(**values: Any) -> SimpleNamespace:
    empty = dict.fromkeys(
        ("top1_mean", "top1_sd", "difference", "interval", "parameters", "macs", "latency_ms", "train_seconds")
    )
    texts = {"pair": "T -> S", "verdict": "", "status": "done", "reason": "", "n": 3}
    return SimpleNamespace(**{**empty, **texts, **values})


ROWS = [
    _row(method="teacher", n=1, top1_mean=91.8, parameters=21_300_000, macs=3_700_000_000, latency_ms=24.1),
    _row(
        method="kd",
        top1_mean=84.61,
        top1_sd=0.4,
        difference=6.5,
        interval=(5.2, 7.8),
        verdict="better",
        parameters=5_000_000,
        macs=1_100_000_000,
        latency_ms=7.9,
        train_seconds=1003.2,
    ),
    _row(method="dkd", n=0, status="failed", reason="loss became NaN\nat step 3"),
]


@dataclass
class Comparison:
    """Stands for the outcome of a comparison."""

    rows: list[Any]
    exit_code: int = 0
    baseline: str = "scratch"
    verdict: str = "kd has the highest mean top-1."
    folder: Path | None = Path("compare-x")

    def document(self) -> dict[str, Any]:
        return {"schema": 1, "status": "done", "exit": self.exit_code, "rows": len(self.rows)}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put stand-ins where the commands reach for the engine, and return what they were called with."""
    made: list[dict[str, Any]] = []

    def stand_in(place: str, returned: Any) -> None:
        def called(*arguments: Any, **options: Any) -> Any:
            made.append({"place": place, "arguments": arguments, **options})
            return returned

        # Imported first, so that its names are bound to the real functions and not, for ever, to a stand-in.
        import_module("compressor.api")
        monkeypatch.setattr(place, called)

    class Result(SimpleNamespace):
        def document(self) -> dict[str, Any]:
            return RESULT

    record = SimpleNamespace(
        name="resnet32x4", data="digits", top1=97.2, origin="trained here", folder=Path("bank/x"), document=dict
    )
    stand_in("compressor.engine.runs.distill", Result(model=object(), student_folder=Path("runs/x/student")))
    stand_in("compressor.comparison.grid.compare", Comparison(ROWS))
    stand_in("compressor.comparison.grid.compare_runs", Comparison(ROWS, folder=None))
    stand_in("compressor.engine.teaching.teach", record)
    stand_in("compressor.api.publish", Path("there"))
    stand_in("compressor.api.evaluate", {"model": "m", "top1": 84.94, "latency_ms": {"median": 7.94}})
    stand_in("compressor.weights.convert", 12)
    stand_in("compressor.cli.process.prepare_process", None)
    return made


def _only(calls: list[dict[str, Any]]) -> dict[str, Any]:
    [call] = [call for call in calls if not call["place"].endswith("prepare_process")]
    return call


def test_distill_hands_over_the_settings_and_prints_the_students_folder(compress: Any, calls: list[Any]) -> None:
    said = compress("distill", "-m", "kd", "--seed", "3", "-o", "mine", "--fresh")
    call = _only(calls)
    [config] = call["arguments"]
    assert (config.method.name, config.seed, call["out"], call["fresh"]) == ("kd", 3, Path("mine"), True)
    assert (said.code, said.out) == (0, "runs/x/student\n")
    first, last = said.err.splitlines()
    assert "compress 0.1.0  torch " in first
    assert "done top1=84.9 teacher=91.8 seconds=" in last


def test_distill_on_a_terminal_prints_the_block_and_no_bare_path(compress: Any, calls: list[Any]) -> None:
    said = compress("distill", "-m", "kd", terminal=True)
    assert said.out == ""
    assert "\n  student top-1  84.9   teacher 91.8" in said.err
    assert "next    compress compare --methods kd -t resnet32x4 -s shufflenetv2 -d digits --seeds 3" in said.err


def test_distill_with_json_prints_one_document_and_quietly_only_the_path(compress: Any, calls: list[Any]) -> None:
    assert json.loads(compress("--json", "distill", "-m", "kd").out) == RESULT
    quiet = compress("distill", "-m", "kd", "-q")
    assert (quiet.out, quiet.err) == ("runs/x/student\n", "")


def test_options_may_come_from_the_environment(
    compress: Any, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_OUT", "elsewhere")
    monkeypatch.setenv("COMPRESS_METHOD", "kd")
    monkeypatch.setenv("COMPRESS_QUIET", "1")
    said = compress("distill")
    assert (said.out, said.err) == ("runs/x/student\n", "")
    assert _only(calls)["out"] == Path("elsewhere")
    assert _only(calls)["arguments"][0].method.name == "kd"


def test_a_dry_run_prints_the_estimate(compress: Any, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from compressor.engine import rehearsal

    phase = rehearsal.PhaseEstimate("student", 270, 0.5)
    estimate = rehearsal.Rehearsal("runs/x", (phase,), 1_100_000_000, 0, 41_000_000)
    monkeypatch.setattr(rehearsal, "rehearse", lambda config, listener: estimate)
    said = compress("distill", "-m", "kd", "--dry-run")
    assert said.out.splitlines() == [
        "phase    steps  ms/step  time",
        "student    270    500.0  2m15s",
        "",
        "time    about 2m15s, without evaluation and start-up",
        "memory  1.1 GB at most so far, 0 B of the method",
        "disk    41.0 MB in runs/x",
        "Nothing was written.",
    ]
    assert json.loads(compress("distill", "-m", "kd", "--dry-run", "--json").out)["seconds"] == 135.0


def test_compare_hands_over_methods_seeds_and_pairs(compress: Any, calls: list[Any]) -> None:
    pairs = "resnet32x4:resnet8x4,hf-hub:a/b:resnet8"
    compress("compare", "--methods", "kd, crd", "--seeds", "2", "--pairs", pairs, "--lr", "0.3", "-o", "there")
    call = _only(calls)
    assert (call["methods"], call["seeds"], call["out"]) == (["kd", "crd"], 2, Path("there"))
    assert call["pairs"] == [("resnet32x4", "resnet8x4"), ("hf-hub:a/b", "resnet8")]
    [config_for] = call["arguments"]
    config = config_for({"method.name": "crd", "seed": 7})
    assert (config.method.name, config.seed, config.training.lr) == ("crd", 7, 0.3)


def test_compare_prints_full_values_for_programs(compress: Any, calls: list[Any]) -> None:
    said = compress("compare", "--methods", "kd")
    header, teacher, method, failed = [line.split("\t") for line in said.out.splitlines()]
    assert len({len(row) for row in (header, teacher, method, failed)}) == 1
    assert dict(zip(header, method, strict=True)) | {"top1_mean": "84.61", "interval_low": "5.2"} == dict(
        zip(header, method, strict=True)
    )
    assert dict(zip(header, teacher, strict=True))["difference"] == ""
    assert dict(zip(header, failed, strict=True))["reason"] == "loss became NaN at step 3"
    places = "report: compare-x/report.html   table: compare-x/table.csv"
    assert said.err.splitlines()[-2:] == ["kd has the highest mean top-1.", places]


def test_compare_prints_a_table_for_eyes_that_fits_80_columns(compress: Any, calls: list[Any]) -> None:
    lines = compress("compare", "--methods", "kd", terminal=True).out.splitlines()
    assert lines[0].startswith("method   top-1 (n)       vs scratch [95 % CI]  verdict  params")
    assert " ".join(lines[1].split()) == "teacher 91.8 - - 21.3 M 24.1 -"
    assert " ".join(lines[2].split()) == "kd 84.6 ± 0.4 (3) +6.5 [+5.2, +7.8] better 5.0 M 7.9 1,003"
    assert lines[-1].startswith("dkd: failed: loss became NaN")
    assert max(map(len, lines)) <= 80


def test_a_failed_cell_is_exit_code_5_after_the_table(
    compress: Any, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compressor.comparison.grid.compare", lambda *_, **__: Comparison(ROWS, exit_code=5))
    said = compress("compare", "--methods", "kd", "--json")
    assert (said.code, json.loads(said.out)["exit"]) == (5, 5)


def test_a_gate_that_is_not_met_is_exit_code_6_after_the_table(
    compress: Any, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(comparison: Any, condition: str) -> None:
        raise GateError(f"{condition} is not met")

    monkeypatch.setattr("compressor.comparison.gate.check", check)
    said = compress("compare", "--methods", "kd", "--fail-under", "kd>=95")
    assert said.code == 6
    assert "kd\tT -> S" in said.out
    assert said.err.endswith("error: kd>=95 is not met\n")
    document = json.loads(compress("compare", "--methods", "kd", "--fail-under", "kd>=95", "--json").out)
    assert (document["exit"], document["status"], document["gate"]) == (6, "error", "kd>=95 is not met")


def test_compare_of_runs_reads_them_and_trains_nothing(compress: Any, calls: list[Any]) -> None:
    said = compress("compare", "runs/a", "runs/b", "--baseline", "kd")
    call = _only(calls)
    assert call["place"].endswith("compare_runs")
    assert (call["arguments"], call["baseline"]) == (([Path("runs/a"), Path("runs/b")],), "kd")
    assert said.code == 0


def test_publish_eval_teach_and_convert_hand_over_and_print_where_it_is(compress: Any, calls: list[Any]) -> None:
    assert compress("publish", "runs/x", "--to", "there", "--onnx", "--license", "mit").out == "there\n"
    assert compress("teach", "-t", "resnet8", "--weights", "w.pth", "--fresh").out == "bank/x\n"
    assert compress("convert", "a.pth", "b.safetensors").out == "b.safetensors\n"
    assert compress("eval", "runs/x", "-d", "digits", "--agree-with", "runs/y").out.splitlines() == [
        "model                m",
        "top1                 84.9400",
        "latency_ms.median    7.9400",
    ]
    published, taught, converted, measured = [call for call in calls if "prepare_process" not in call["place"]]
    assert published["arguments"] == (Path("runs/x"), Path("there"))
    assert (published["onnx"], published["license"]) == (True, "mit")
    assert (taught["weights"], taught["fresh"]) == (Path("w.pth"), True)
    assert taught["arguments"][0].teacher.name == "resnet8"
    assert converted["arguments"] == (Path("a.pth"), Path("b.safetensors"))
    assert (measured["arguments"][0], measured["teacher"]) == ("runs/x", "runs/y")


@pytest.mark.parametrize(
    "line",
    [
        "publish runs/x",
        "publish runs/x --push me/it --yes",
        "teach -t resnet8",
        "convert a b.safetensors",
        "eval runs/x",
    ],
)
def test_every_command_prints_one_document_with_json(line: str, compress: Any, calls: list[Any]) -> None:
    document = json.loads(compress(*line.split(), "--json").out)
    assert (document["schema"], document["status"], document["exit"]) == (1, "done", 0)


def test_show_tells_state_curve_and_the_command_that_goes_on(compress: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    described = {
        "command": "compress distill -m kd",
        "began": "2026-11-20T14:44:01Z",
        "host": "node3",
        "config": {
            "seed": 0,
            "teacher": {"name": "resnet34"},
            "student": {"name": "resnet10t"},
            "data": {},
            "method": {"name": "kd", "settings": {}},
            "training": {"epochs": 3, "batch_size": 50, "select": "last"},
        },
        "config_sha256": "0" * 64,
    }
    (run / "run.json").write_text(json.dumps(described))
    accuracies = [10.0, 50.0, 90.0]
    rows = [f"student,{epoch},1.0,,{value},,0.1,1" for epoch, value in enumerate(accuracies)]
    header = "phase,epoch,train_loss,eval_loss,eval_top1,eval_top5,lr,seconds"
    (run / "metrics.csv").write_text("\n".join([header, *rows]) + "\n")
    lines = compress("show", str(run)).out.splitlines()
    assert lines[:3] == [f"Run      {run}", "State    stopped", "Began    2026-11-20T14:44:01Z on node3"]
    assert lines[-1] == "Resume   compress distill -m kd"
    drawn = lines[lines.index("val top-1, 3 points") + 1 :][:8]
    assert drawn[0] == "90.00 |  *"
    assert drawn[-1] == "10.00 |*"
    assert sum(line.count("*") for line in drawn) == 3
    with RunLock(run):
        assert "State    running" in compress("show", str(run)).out
    (run / "result.json").write_text(json.dumps(RESULT))
    finished = compress("show", str(run)).out.splitlines()
    assert "Result   top1 84.94   teacher_top1 91.80   agreement 88.20   ece 0.03" in finished
    assert "Student  runs/x/student" in finished
    document = json.loads(compress("show", str(run), "--json").out)
    assert (document["state"], document["result"]) == ("done", RESULT)


def test_show_of_something_else_is_bad_input(compress: Any) -> None:
    said = compress("show", "nothing")
    assert said.code == 3
    assert said.err.startswith("error: nothing is not a run")


def test_doctor_tells_versions_folders_and_broken_methods(compress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import compressor.registry as registry
    from compressor.errors import PluginError

    def load_method(name: str) -> Any:
        raise PluginError(f"method {name!r} cannot be imported: ImportError: scipy")

    monkeypatch.setattr(registry, "load_method", load_method)
    facts = json.loads(compress("doctor", "--json").out)
    import torch

    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert facts["folders"]["cache"]["path"].endswith("cache/compress")
    assert facts["folders"]["cache"] == facts["folders"]["cache"] | {"exists": False, "writable": True}
    assert facts["answers"]["path"].endswith("cache/compress/answers")
    assert facts["answers"]["bytes"] == 0
    assert set(facts["broken"]) == set(registry.names(registry.METHODS))
    lines = compress("doctor").out.splitlines()
    assert any(line.startswith("broken method    kd: method 'kd' cannot be imported") for line in lines)


def test_plugins_check_lists_every_fault_and_ends_with_3(compress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from compressor.cli import plugins

    monkeypatch.setattr(plugins, "faults_of", lambda name: ["its `Config` must be frozen", "no docstring"])
    said = compress("plugins", "check", "kd")
    assert said.code == 3
    assert [line.strip() for line in said.out.splitlines()] == [
        "fault  kd   (compress-kd 0.1.0)",
        "its `Config` must be frozen",
        "no docstring",
    ]
    document = json.loads(compress("plugins", "check", "kd", "--json").out)
    assert (document["exit"], document["methods"][0]["faults"][1]) == (3, "no docstring")
    monkeypatch.setattr(plugins, "faults_of", lambda name: [])
    assert compress("plugins", "check").code == 0


def test_plugins_check_of_one_method_shows_what_it_makes_of_real_networks(
    compress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compressor.cli import plugins
    from compressor.testing.pairs import REAL_PAIRS, Verdict

    one, other, third, fourth = REAL_PAIRS
    said = [Verdict(one), Verdict(other, refused="no maps", hint="another"), Verdict(third, faults=("a", "b"))]
    monkeypatch.setattr(plugins, "faults_of", lambda name: [])
    monkeypatch.setattr(plugins, "pairs_of", lambda name: said[:2])
    fine = compress("plugins", "check", "kd")
    assert fine.code == 0
    assert [line.strip() for line in fine.out.splitlines()] == [
        "ok     kd   (compress-kd 0.1.0)",
        f"{one.label}   runs",
        f"{other.label}   refused: no maps",
    ]
    monkeypatch.setattr(plugins, "pairs_of", lambda name: [*said, Verdict(fourth)])
    bad = compress("plugins", "check", "kd")
    assert (bad.code, bad.out.split()[0]) == (3, "fault")
    assert [line.strip() for line in bad.out.splitlines()][3:5] == [f"{third.label}   a", f"{third.label}   b"]
    document = json.loads(compress("plugins", "check", "kd", "--json").out)["methods"][0]
    assert document["pairs"][1] == {
        "teacher": other.teacher,
        "student": other.student,
        "refused": "no maps",
        "hint": "another",
        "faults": [],
    }


def test_another_process_of_a_launch_stays_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, calls: list[Any]
) -> None:
    from compressor.cli.main import main

    monkeypatch.setenv("RANK", "1")
    assert main(["distill", "-m", "kd"]) == 0
    assert capsys.readouterr() == ("", "")
