"""Row C4: without network what lies in the cache works, everything else is told at once; a token is never repeated."""

import os
import socket
import time
from pathlib import Path
from typing import ClassVar

import pytest
import timm
from fault_runs import DATA, Stage, distill, environ
from hostile_doors import QUICK, ask, check, report
from huggingface_hub import constants

import compressor_zoo
from compressor.models import hub
from compressor.models.create import create_model

SECRET = "hf_" + "SecretOfTheTest" * 2
REMOTE = {
    "teacher by a hub name": distill("kd", out="out", teacher__name="hf-hub:nobody/nothing", **QUICK),
    "student by a hub name": distill("scratch", out="out", student__name="hf-hub:nobody/nothing", **QUICK),
    "pretrained student": distill("scratch", out="out", student__name="resnet18", student__init="pretrained", **QUICK),
    "pretrained teacher": distill("kd", out="out", teacher__name="resnet18", teacher__weights="pretrained", **QUICK),
    "evaluation by a hub name": ["eval", "hf-hub:nobody/nothing", "--data", DATA],
}


def test_what_the_cache_does_not_hold_is_told_at_once_with_the_variable(stage: Stage) -> None:
    place = stage.place()
    cases = [{"label": label, "arguments": arguments} for label, arguments in REMOTE.items()]
    cases.append(
        {"label": "data of the hub", "arguments": ["distill", "-m", "scratch", "--data", "hfds/nobody/nothing"]}
    )
    answers = ask(stage, place, cases, watched=False)
    report("C4", answers)
    check(answers)
    assert all("HF_HUB_OFFLINE is set" in answer.said for answer in answers if "data" not in answer.label)
    assert max(answer.seconds for answer in answers) < 10


def closed_port() -> int:
    """Return a port of this machine at which nobody listens."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


def test_a_dead_proxy_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{closed_port()}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, address)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    began = time.monotonic()
    hub.go_offline_if_unreachable()
    assert time.monotonic() - began < 10
    assert constants.HF_HUB_OFFLINE
    assert "HTTPS_PROXY" in hub.how_to_reach_it()


def test_a_hub_that_answers_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        asked: ClassVar[list[str]] = []

        def head(self, address: str, timeout: float) -> None:
            self.asked.append(address)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)
    hub.go_offline_if_unreachable()
    assert not constants.HF_HUB_OFFLINE
    assert Session.asked == [constants.ENDPOINT]


def test_what_the_cache_holds_works_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub's cache as the hub's client lays it out: a revision, a snapshot with the two files."""
    assert compressor_zoo.ARCHITECTURES
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--me--student"
    revision = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    net = timm.create_model("resnet10t", num_classes=3)
    timm.models.save_for_hf(
        net, repository / "snapshots" / revision, model_config={"num_classes": 3}, safe_serialization=True
    )
    loaded = create_model("hf-hub:me/student", pretrained=True)
    assert loaded.state_dict()["fc.weight"].equal(net.state_dict()["fc.weight"])


def test_a_token_is_in_no_file_and_no_output(stage: Stage) -> None:
    place = stage.place()
    lines = [
        distill("kd", out="run", **QUICK),
        ["publish", "run", "--to", "published"],
        ["publish", "run", "--push", "nobody/nothing", "--yes", "--debug"],
        [*distill("kd", out="out", teacher__name="hf-hub:nobody/nothing", **QUICK), "--debug"],
        ["doctor"],
        ["show", "run", "--json"],
    ]
    own = {**environ(place), "HF_TOKEN": SECRET, "HUGGING_FACE_HUB_TOKEN": SECRET, "HF_HUB_OFFLINE": None}
    for line in lines:
        child = stage.server.run("compress", place, own, args=line)
        assert child.status in (0, 2, 3), child.output
    found = [path for path in place.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert found == []
    assert (place / "run" / "result.json").is_file()
    assert SECRET not in os.environ.values()
