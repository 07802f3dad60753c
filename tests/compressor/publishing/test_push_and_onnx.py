"""The hub and ONNX, without a network."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from torch import nn

from compressor.errors import InputError, UsageError
from compressor.publishing import export_onnx, push
from compressor.publishing.hub import _ALLOWED


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in (*_ALLOWED[:5], "notes.txt"):
        (tmp_path / name).write_text("x")
    return tmp_path


class Hub:
    """Stands for the hub; notes what it is asked, or fails with ``error``."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, Any]] = []

    def create_repo(self, repo_id: str, **options: Any) -> str:
        self.asked.append(("create", {"repo_id": repo_id, **options}))
        return f"https://hub/{repo_id}"

    def upload_folder(self, **options: Any) -> None:
        if self.error:
            raise self.error
        self.asked.append(("upload", options))


def test_a_push_is_one_commit_of_the_published_files_alone(folder: Path, monkeypatch: pytest.MonkeyPatch):
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    assert push(folder, "org/name", private=True) == "https://hub/org/name"
    (_, created), (_, uploaded) = hub.asked
    assert created == {"repo_id": "org/name", "private": True, "exist_ok": True}
    assert uploaded["folder_path"] == str(folder)
    assert "model.safetensors" in uploaded["allow_patterns"]
    assert "notes.txt" not in uploaded["allow_patterns"]


def http_error(status: int) -> Exception:
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    error.response = type("Response", (), {"status_code": status})()
    return error


@pytest.mark.parametrize(
    ("error", "words", "hint"),
    [
        (LocalTokenNotFoundError("hf_secret"), "refused to take org/name: no token", "HF_TOKEN"),
        (http_error(403), "HTTP status 403", "HF_TOKEN"),
        (ConnectionError("hf_secret"), "could not be reached: ConnectionError", "network"),
        (TimeoutError("hf_secret"), "could not be reached: TimeoutError", "network"),
    ],
)
def test_a_hub_that_refuses_or_is_away_is_one_line_without_secrets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str, hint: str
):
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: Hub(error))
    with pytest.raises(InputError, match=words) as caught:
        push(folder, "org/name")
    assert hint in (caught.value.hint or "")
    assert "hf_secret" not in caught.value.message


def test_errors_of_the_http_library_are_caught(folder: Path, monkeypatch: pytest.MonkeyPatch):
    base = next(one for one in HfHubHTTPError.__bases__ if issubclass(one, Exception))
    away = type("ConnectError", (base,), {"__init__": lambda self: None})()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: Hub(away))
    with pytest.raises(InputError, match="could not be reached: ConnectError"):
        push(folder, "org/name")


def test_what_cannot_be_pushed_is_refused_before_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="must be organisation/name"):
        push(folder, "name")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set"):
        push(folder, "org/name")
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing"):
        push(folder, "org/name")


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))


def test_the_onnx_file_answers_as_the_student_for_any_batch(tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    module = small()
    assert export_onnx(module, tmp_path / "model.onnx", (3, 8, 8)) <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    module.eval()
    for batch in (1, 7):
        images = torch.randn(batch, 3, 8, 8)
        (logits,) = session.run(None, {"images": images.numpy()})
        assert torch.allclose(torch.from_numpy(logits), module(images), atol=1e-5)


def test_a_network_that_onnx_cannot_express_is_refused(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")

    class Odd(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvalsh(images[:, 0])

    with pytest.raises(InputError, match="cannot be written as ONNX"):
        export_onnx(Odd(), tmp_path / "model.onnx", (3, 8, 8))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named_with_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="ONNX export needs onnx") as caught:
        export_onnx(small(), tmp_path / "model.onnx", (3, 8, 8))
    assert caught.value.hint == "pip install 'compress-kd[onnx]'"
