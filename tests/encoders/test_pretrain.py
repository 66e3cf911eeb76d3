"""The pretraining loop: accumulated, in several processes, in bf16, and what it says of collapse and speed."""

import copy
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mindreel.encoders.backbone.vit import ViTConfig
from mindreel.encoders.objectives.auxiliary import AuxiliaryConfig
from mindreel.encoders.objectives.vjepa import VJEPA, VJEPAConfig
from mindreel.encoders.pretrainer import CollapseError, PretrainConfig, Pretrainer, flops_per_clip
from mindreel.encoders.probes.regression import effective_rank
from mindreel.encoders.throughput import autocast_dtype, count_flops, has_bf16, peak_flops

ROOT = Path(__file__).parents[2]
FRAMES, STEPS, SIDE = 2, 2, 32
# Each term is a mean over clips and draws nothing at random: half batches then average to the whole one.
CONFIG = VJEPAConfig(
    readout="embedding",
    random_shift=0,
    vit=ViTConfig(image_size=SIDE, frames=FRAMES, tubelet=FRAMES, patch=8, dim=24, depth=1, heads=2),
    embedding_dim=32,
    token_channels=8,
    predictor_dim=24,
    jepa_coef=0.0,
    auxiliary=AuxiliaryConfig(future_coef=1.0, reward_coef=1.0, future_components=8, change_components=4),
)


def made(**changes) -> VJEPA:
    torch.manual_seed(7)
    encoder = VJEPA(replace(CONFIG, **changes), action_dim=1)
    frames, _, reward = data()
    encoder.fit(frames[:, :2], reward[:, 0])
    return encoder


def data(count: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    frames = torch.randint(256, (count, FRAMES + STEPS, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return frames, torch.rand(count, STEPS, 1, generator=generator), torch.rand(count, STEPS, generator=generator)


def train(encoder: VJEPA, config: PretrainConfig, parts: int = 1, part: int = 0) -> list[dict[str, float]]:
    """Trains on rows of `data` in a fixed order, or on every `parts`-th of them, `config.batch_size` at a time."""
    drawn = 0

    def sample() -> tuple[torch.Tensor, ...]:
        nonlocal drawn
        size = config.batch_size * parts
        rows = (torch.arange(size) + drawn) % 64
        drawn += size
        return tuple(x[rows[part::parts]] for x in data())

    rows = list(Pretrainer(config, encoder).train(sample, config.steps, config.lr))
    return [row for row in rows if row is not None]


def assert_close(one: VJEPA, other: VJEPA, **tolerance: float) -> None:
    for (name, x), y in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        if name.endswith("qkv.bias"):  # softmax does not feel the keys': AdamW blows up what is rounding
            continue
        torch.testing.assert_close(x, y, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def distance(one: VJEPA, other: VJEPA) -> float:
    return max(float((x - y).detach().abs().max()) for x, y in zip(one.parameters(), other.parameters(), strict=True))


def gradient_norm(encoder: VJEPA) -> torch.Tensor:
    """Of the last step: AdamW itself does not feel a factor that all gradients share."""
    return torch.stack([p.grad.norm() for p in encoder.parameters() if p.grad is not None]).norm()


WHOLE = PretrainConfig(steps=6, batch_size=16, lr=1e-3, warmup=1, log_every=3, min_effective_rank=1.0)
# AdamW divides each gradient by its size, so that rounding may show wherever a gradient is next to nothing.
CLOSE = {"rtol": 0.0, "atol": 3e-4}


def test_small_batches_are_not_taken_for_collapse() -> None:
    for size, accumulate, rank in ((2, 1, 1), (3, 1, 1.9), (2, 8, 6)):
        small = PretrainConfig(steps=2, batch_size=size, accumulate=accumulate, log_every=1)
        for row in train(made(), small):
            assert row["effective_rank"] >= rank
    with pytest.raises(ValueError, match="batch_size 2 or more"):
        PretrainConfig(batch_size=1)


def test_accumulated_batches_make_the_step_of_a_large_one() -> None:
    untrained, whole, accumulated = made(), made(), made()
    expected = train(whole, WHOLE)
    found = train(accumulated, replace(WHOLE, batch_size=8, accumulate=2))
    assert_close(accumulated, whole, **CLOSE)
    assert distance(whole, untrained) > 10 * CLOSE["atol"]
    assert [row["step"] for row in found] == [3, 6]
    assert found[-1]["loss"] == pytest.approx(expected[-1]["loss"], rel=1e-3)


WORKER = """
    import importlib.util
    import sys
    import torch
    from torch import distributed

    spec = importlib.util.spec_from_file_location("tested", sys.argv[1])
    tested = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tested)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    encoder = tested.made()
    trainer = tested.Pretrainer(tested.PretrainConfig(tflop=10, batch_size=8), encoder)
    frames, *rest = tested.data()
    # The second process's sequences cost less, as random masks may.
    planned = trainer.planned(lambda: (frames, *rest) if rank == 0 else (frames[:, 1:], *(x[:, :1] for x in rest)), 100)
    tested.train(encoder, tested.replace(tested.WHOLE, batch_size=8), parts=2, part=rank)
    found = {"norm": tested.gradient_norm(encoder), "planned": torch.tensor(planned)}
    torch.save(encoder.state_dict() | found, f"{sys.argv[2]}/{rank}.pt")
    distributed.destroy_process_group()
"""


def test_two_processes_make_the_steps_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(textwrap.dedent(WORKER))
    store = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29431", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in ("0", "1"):
        environment = os.environ | store | {"RANK": rank, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        command = [sys.executable, str(worker), __file__, str(tmp_path)]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    whole = made()
    train(whole, WHOLE)
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one.pop("planned") > 1
    torch.testing.assert_close(one.pop("norm"), gradient_norm(whole), rtol=0.05, atol=0.0)
    found = made()
    found.load_state_dict(one)
    assert_close(found, whole, **CLOSE)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++ on the CPU")
@pytest.mark.filterwarnings("ignore")  # torch's compiler meets several of its own
def test_compiled_blocks_make_the_same_steps() -> None:
    compiled, plain = made(), made()
    config = PretrainConfig(steps=4, batch_size=16, warmup=0, log_every=1)
    one = train(compiled, replace(config, compile=True))
    two = train(plain, config)
    assert compiled.vit.blocks[0]._compiled_call_impl is not None and plain.vit.blocks[0]._compiled_call_impl is None
    assert [row["loss"] for row in one] == pytest.approx([row["loss"] for row in two], rel=1e-4)
    assert one[-1]["loss"] < one[0]["loss"]


def test_bf16_where_there_are_units_for_it() -> None:
    cpu = torch.device("cpu")
    assert autocast_dtype("float32", cpu) is None
    assert autocast_dtype("auto", cpu) is None
    half = replace(WHOLE, precision="bf16")
    if not has_bf16(cpu):
        with pytest.raises(ValueError, match="cpu has no units for it"):
            Pretrainer(half, made())
        return
    whole, encoder = made(), made()
    expected, found = train(whole, WHOLE), train(encoder, half)
    assert all(p.dtype == torch.float32 for p in encoder.parameters())
    assert found[-1]["loss"] == pytest.approx(expected[-1]["loss"], rel=0.03)
    assert 0 < distance(encoder, whole) < 0.02


def test_a_constant_is_a_collapse_whatever_its_rank() -> None:
    encoder = made()
    last = encoder.readout.mlp[-1]
    with torch.no_grad():
        last.weight.mul_(1e-5)
        last.bias.fill_(1.0)
    config = replace(WHOLE, steps=1, lr=1e-12, log_every=1)
    with pytest.raises(CollapseError, match=r"at step 1: its features are the same for every clip, with .*rank [^1]"):
        train(encoder, config)
    encoder = made()
    with torch.no_grad():
        encoder.readout.mlp[-1].weight[1:] = 0
    with pytest.raises(CollapseError, match="vary along too few directions, with effective rank 1"):
        train(encoder, replace(config, min_effective_rank=2.0))


def test_tokens_are_watched_where_components_of_them_are_received() -> None:
    encoder = made(readout="compressed")  # never fitted: its features are zero, which says nothing of its tokens
    config = replace(WHOLE, steps=1, lr=1e-12, log_every=1, min_effective_rank=2.0)
    with torch.no_grad():
        tokens = encoder.tokens(data()[0][:16, :FRAMES])
    row = train(encoder, config)[-1]
    assert row["effective_rank"] == pytest.approx(float(effective_rank(tokens.flatten(1))), rel=1e-3)
    with torch.no_grad():
        encoder.vit.norm.weight.zero_()
        encoder.vit.norm.bias.fill_(1.0)
    with pytest.raises(CollapseError, match="its features are the same for every clip"):
        train(encoder, config)


def test_what_a_monitor_measures_is_in_the_metrics() -> None:
    steps = Pretrainer(WHOLE, made()).train(lambda: tuple(x[:16] for x in data()), 6, 1e-3, lambda: {"probe_r2": 0.5})
    rows = [row for row in steps if row]
    assert [row["probe_r2"] for row in rows] == [0.5, 0.5]


def test_operations_are_counted() -> None:
    one, other = torch.randn(5, 7), torch.randn(7, 11, requires_grad=True)
    assert count_flops(lambda: (one @ other).sum().backward()) == 2 * (2 * 5 * 7 * 11)
    q = torch.randn(2, 3, 16, 8)
    assert count_flops(lambda: F.scaled_dot_product_attention(q, q, q)) == 2 * (2 * 2 * 3 * 16 * 16 * 8)
    encoder, random = made(), torch.get_rng_state()
    before = copy.deepcopy(encoder.state_dict())
    flops = flops_per_clip(encoder, lambda: tuple(x[torch.randperm(64)] for x in data()))
    # At least the products of the block's layers with its tokens, forward and twice backward.
    assert flops > 3 * 2 * 16 * 12 * 24**2
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], x) for name, x in encoder.state_dict().items())
    assert all(p.grad is None for p in encoder.parameters())


def test_compute_sets_the_steps() -> None:
    encoder, sample = made(), lambda: tuple(x[:16] for x in data())
    seven = 7 * 2 * 16 * flops_per_clip(encoder, sample) / 1e12
    trainer = Pretrainer(replace(WHOLE, batch_size=16, accumulate=2, steps=100, tflop=seven), encoder)
    assert trainer.planned(sample, 100) == 7 and trainer.planned(sample, 50) in (3, 4)
    resumed = Pretrainer(trainer.config, encoder)
    resumed.load_state_dict(trainer.state_dict())
    assert resumed.planned(lambda: pytest.fail("a resumed run draws nothing to count"), 100) == 7
    assert Pretrainer(WHOLE, encoder).planned(sample, 9) == 9
    with pytest.raises(ValueError, match="tflop must be 0 or more"):
        replace(WHOLE, tflop=-1.0)


def test_throughput_is_that_of_the_steps() -> None:
    trainer = Pretrainer(replace(WHOLE, accumulate=2), made())
    sample = lambda: tuple(x[:16] for x in data())
    assert trainer.throughput(sample) == {}
    list(trainer.train(sample, 6, 1e-3))
    found = trainer.throughput(sample)
    assert found["clips_per_s"] == pytest.approx(4 * 2 * 16 / trainer._seconds)
    assert found["tflop"] == pytest.approx(6 * 2 * 16 * found["gflop_per_clip"] / 1e3)
    expected = found["clips_per_s"] * found["gflop_per_clip"] / found["peak_gflop_per_s"]
    assert 0 < found["peak_fraction"] == pytest.approx(expected)
    assert peak_flops(torch.device("cpu"), seconds=0.05) > 1e8
