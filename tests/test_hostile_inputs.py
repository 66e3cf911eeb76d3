"""Files of strangers, made to do harm: each is refused in one sentence, within bounds of time and memory.

The inputs are those of hostile_inputs/. Each is written into a folder of its own and read by the reader that it is for,
in processes that watch for files outside, programs started and connections made. docs/security.md says what is
promised.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file

INPUTS = Path(__file__).parent / "hostile_inputs"
sys.path.insert(0, str(INPUTS))
import hostile_checkpoints  # noqa: E402
import hostile_folders  # noqa: E402
import hostile_hdf5  # noqa: E402
import hostile_lerobot  # noqa: E402
import hostile_weights  # noqa: E402, F401
from hostile_cases import CASES, MARK, png  # noqa: E402
from hostile_process import SECONDS  # noqa: E402
from hostile_videos import video  # noqa: E402

sys.path.remove(str(INPUTS))

MEGABYTES = 1000
"""What one input may take, beside what the interpreter held before it."""
PROCESSES = {"recordings": ("data", "background"), "weights": ("weights", "checkpoint", "state")}


def secrets(folder: Path) -> list[Path]:
    """Files that no input may lead to, each of its own kind and readable."""
    folder.mkdir()
    video(folder / "secret.mp4")
    with h5py.File(folder / "secret.h5", "w") as file:
        hostile_hdf5.arrays(actions=np.zeros((20, 2)), ep_len=np.array([10, 10]))(file)
    (folder / "secret.bin").write_bytes(bytes(20 * 8 * 8 * 3))
    rows = {"episode_index": [0] * 12, "action": [[0.0, 1.0]] * 12}
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "secret.parquet")
    (folder / "secret.json").write_text('{"fps": 10}')
    (folder / "secret.png").write_bytes(png(8, 8))
    save_file({"x": torch.zeros(3)}, folder / "secret.safetensors")
    return sorted(folder.iterdir())


def sound(folder: Path) -> dict[str, Path]:
    """An input for each reader that it reads without complaint."""
    folder.mkdir()
    (folder / "data").mkdir()
    with h5py.File(folder / "data" / "x.h5", "w") as file:
        hostile_hdf5.arrays(actions=np.zeros((20, 2)), ep_len=np.array([10, 10]))(file)
    (folder / "lerobot").mkdir()
    hostile_lerobot.lerobot(folder / "lerobot")
    (folder / "videos").mkdir()
    video(folder / "videos" / "x.mp4")
    (folder / "weights").mkdir()
    hostile_folders.model()(folder / "weights")
    state = {"encoder": hostile_checkpoints.LAYER, "optimizer": hostile_checkpoints.OPTIMIZED}
    path = hostile_checkpoints.checkpoint(**state, replay=hostile_checkpoints.REPLAY)(folder)
    return {
        "data": folder / "data",
        "background": folder / "videos",
        "weights": folder / "weights",
        "checkpoint": path,
        "state": path,
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What became of each input, by its name; both processes run at once."""
    folder = tmp_path_factory.mktemp("hostile")
    held = secrets(folder / "secret")
    listed = {reader: {"sound": str(path)} for reader, path in sound(folder / "sound").items()}
    for number, (name, (reader, make)) in enumerate(CASES.items()):
        own = folder / f"{number:03d}"
        own.mkdir()
        listed[reader][name] = str(make(own) or own)
    (folder / "inputs.json").write_text(json.dumps(listed))
    for file in held:
        os.utime(file, (1, file.stat().st_mtime))  # it was read last long ago
    started = [start(readers, folder) for readers in PROCESSES.values()]
    found: dict[str, dict] = {}
    for process in started:
        said, errors = process.communicate(timeout=240)
        assert said, errors[-3000:]
        for row in map(json.loads, said.splitlines()):
            found[row["name"]] = found.get(row["name"], {"kind": f"ended by {process.returncode}"}) | row
    for file in held:
        found[f"secret {file.name}"] = {"read": file.stat().st_atime > 1}
    return found


def start(readers: tuple[str, ...], folder: Path) -> subprocess.Popen:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(INPUTS / "hostile_process.py"), str(folder), *readers]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=folder)


def test_there_are_many() -> None:
    assert len(CASES) >= 120


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_a_sentence(results: dict[str, dict], name: str) -> None:
    result = results.get(name, {"kind": "not reached"})
    assert result["kind"] == "refused", result
    assert result["said"] and "weights_only" not in result["said"] and "\n" not in result["said"], result
    assert not result["seen"], result
    assert result["seconds"] < SECONDS and result["megabytes"] < MEGABYTES, result


def test_nothing_is_executed_and_no_secret_read(results: dict[str, dict]) -> None:
    assert not Path(MARK).exists()
    assert not [name for name, result in results.items() if result.get("read")]


def test_the_watch_sees(tmp_path: Path) -> None:
    """What the tests above rely on: a time of reading that is kept, and a hook that notes what goes on outside."""
    file = secrets(tmp_path / "secret")[0]
    os.utime(file, (1, file.stat().st_mtime))
    file.read_bytes()
    if file.stat().st_atime == 1:
        pytest.skip("this file system keeps no times of reading")
    script = (
        "import os, pathlib, hostile_process\n"
        f"seen = []; hostile_process.watch(pathlib.Path({str(tmp_path / 'x')!r}), seen)\n"
        f"open({str(file)!r}).close(); open({str(tmp_path / 'y')!r}, 'w').close(); os.system('true'); print(seen)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=INPUTS)
    expected = [f"open {file}", f"open {tmp_path / 'y'}", "os.system"]
    assert done.stdout.strip() == str(expected), done.stdout + done.stderr
