"""What a user of a published folder meets: a new Python process, torch, timm and `import compressor_zoo`."""

import json
import subprocess
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

import compressor_zoo

NAMES = ("cifar_resnet8", "cifar_mobilenetv2_half_stride1")

READER = """
import json, sys
import compressor_zoo, timm, torch

answers = {}
for folder in json.loads(sys.argv[1]):
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        logits = model(torch.linspace(-2, 2, 2 * 3 * 32 * 32).view(2, 3, 32, 32))
    answers[folder] = [logits.tolist(), model.pretrained_cfg["label_names"]]
ours = sorted(name for name in sys.modules if name.split(".")[0] in ("compressor", "compressor_plugins"))
print(json.dumps({"answers": answers, "ours": ours}))
"""


def test_saved_folder_loads_through_timm_and_gives_the_same_logits(tmp_path: Path) -> None:
    images = torch.linspace(-2, 2, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    wanted = {}
    for name in NAMES:
        model = timm.create_model(name, num_classes=4).train()
        model(images)  # moves the running statistics away from 0 and 1
        folder = tmp_path / f"a folder # of {name}"
        save_for_hf(model.eval(), folder, model_config={"label_names": list("abcd")}, safe_serialization=True)
        with torch.no_grad():
            wanted[str(folder)] = model(images)
    # Outside of the repository only the zoo's own folder is on the path.
    zoo = str(Path(compressor_zoo.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", READER, json.dumps(list(wanted))],
        cwd=tmp_path,
        env={"PYTHONPATH": zoo, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ours"] == []
    for folder, logits in wanted.items():
        got, labels = report["answers"][folder]
        assert torch.allclose(torch.tensor(got), logits, rtol=0, atol=1e-6)
        assert labels == list("abcd")


def test_file_of_another_class_count_keeps_body_and_input_layer(tmp_path: Path) -> None:
    source = timm.create_model("cifar_resnet8", num_classes=100)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    overlay = {"file": str(tmp_path / "weights.safetensors")}
    gray = timm.create_model(
        "cifar_resnet8", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=10, in_chans=1
    )
    assert torch.equal(gray.layer3[0].conv2.weight, source.layer3[0].conv2.weight)
    assert torch.allclose(gray.conv1.weight, source.conv1.weight.sum(1, keepdim=True))
    assert gray.fc.weight.shape == (10, 64)
