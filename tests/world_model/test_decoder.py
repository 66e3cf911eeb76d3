"""The decoder draws what a latent says and leaves the latent's maker alone."""

import pytest
import torch

from mindreel.world_model.decoder import Decoder, DecoderConfig, fit_decoder

SMALL = DecoderConfig(hidden=64, channels=16)


def _moving_squares(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (N, 16) that hold a square's place, and its pictures uint8 (N, 3, 32, 32) over a gradient."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(3, 22, (count, 2), generator=generator)
    frames = torch.linspace(0, 120, 32).byte().expand(count, 3, 32, 32).clone()
    for frame, (row, column) in zip(frames, place.tolist(), strict=True):
        frame[:, row : row + 7, column : column + 7] = torch.tensor([255, 40, 40]).byte()[:, None, None]
    mixing = torch.randn(2, 16, generator=torch.Generator().manual_seed(9))
    return torch.tanh((place.float() - 12) / 10 @ mixing), frames


def test_a_fitted_decoder_draws_unseen_latents_far_better_than_the_mean_picture():
    torch.manual_seed(0)
    latents, frames = _moving_squares(2048, seed=1)
    decoder = Decoder(16, (3, 32, 32), SMALL)
    done = []
    losses = fit_decoder(
        decoder,
        latents.half(),
        frames,
        steps=250,
        batch_size=32,
        generator=torch.Generator().manual_seed(0),
        progress=lambda step, steps: done.append((step, steps)),
    )
    assert len(losses) == 250 and done[-1] == (250, 250)
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])
    new_latents, new_frames = _moving_squares(128, seed=2)
    error = (decoder.decode(new_latents).float() - new_frames).square().mean()
    mean_error = (decoder.mean_frame * 255 - new_frames).square().mean()
    assert error < 0.4 * mean_error
    red = decoder.decode(new_latents)[:, 0].flatten(1).amax(1)
    assert (red > 180).float().mean() > 0.9  # the small square stands out in nearly every picture


def test_an_unfitted_decoder_shows_one_grey_picture():
    frames = Decoder(5, (3, 16, 24), SMALL).decode(torch.randn(2, 7, 5))
    assert frames.shape == (2, 7, 3, 16, 24) and frames.dtype == torch.uint8
    assert set(frames.unique().tolist()) <= {127, 128}


def test_no_gradient_reaches_the_latents():
    latents = torch.randn(4, 5, requires_grad=True)
    decoder = Decoder(5, (3, 16, 16), SMALL)
    decoder(latents).sum().backward()
    assert latents.grad is None
    assert any(parameter.grad is not None for parameter in decoder.parameters())


def test_the_same_generator_gives_the_same_losses():
    latents, frames = _moving_squares(64, seed=3)
    runs = []
    for _ in range(2):
        torch.manual_seed(4)
        decoder = Decoder(16, (3, 32, 32), SMALL)
        generator = torch.Generator().manual_seed(5)
        runs.append(fit_decoder(decoder, latents, frames, steps=5, batch_size=8, generator=generator))
    assert runs[0] == runs[1]


def test_constant_pictures_and_latents_stay_finite():
    decoder = Decoder(5, (3, 16, 16), SMALL)
    losses = fit_decoder(decoder, torch.ones(4, 5), torch.full((4, 3, 16, 16), 9).byte(), steps=3, batch_size=2)
    assert torch.tensor(losses).isfinite().all()
    assert (decoder.decode(torch.ones(1, 5)).float() - 9).abs().max() <= 1
    assert fit_decoder(decoder, torch.ones(4, 5), torch.zeros(4, 3, 16, 16).byte(), steps=0) == []


def test_wrong_input_says_what_was_expected():
    decoder = Decoder(5, (3, 16, 16), SMALL)
    frames = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="multiples of 8, got"):
        Decoder(5, (3, 20, 16))
    with pytest.raises(ValueError, match=r"latents \(\.\.\., 5\), got shape \(4, 6\)"):
        decoder(torch.zeros(4, 6))
    with pytest.raises(ValueError, match="uint8 frames, got torch.float32"):
        fit_decoder(decoder, torch.zeros(4, 5), frames.float())
    with pytest.raises(ValueError, match=r"frames \(N, 3, 16, 16\).*got \(4, 3, 8, 16\)"):
        fit_decoder(decoder, torch.zeros(4, 5), frames[:, :, :8])
    with pytest.raises(ValueError, match="at least 1"):
        fit_decoder(decoder, torch.zeros(0, 5), frames[:0])
    with pytest.raises(ValueError, match=r"latents \(4, 5\), one for each frame, got \(3, 5\)"):
        fit_decoder(decoder, torch.zeros(3, 5), frames)
