"""Tokens as input of a language model."""

import torch

from mindreel.encoders.probes.bootstrap import weighted_mean
from mindreel.encoders.probes.frontend import export_tokens, fit_captioner
from mindreel.encoders.probes.recognition import majority
from mindreel.probing.probe_data import ProbeData
from mindreel.probing.suites.scoring import scored

_EXPORTED = 64  # clips whose tokens are written for a language model


def frontend(data: ProbeData) -> list[dict]:
    """Fraction of clips for which a captioner, reading tokens, writes the right sentence. Also exports tokens."""
    sentences = data.train.metadata.behaviours
    if not sentences:
        return []
    train, test = data.drawn(lambda rollouts: rollouts.behaviour >= 0)
    if not (len(train.episode) and len(test.episode)):
        return []
    label, truth = (part.of(part.rollouts.behaviour) for part in (train, test))
    captioner = fit_captioner(data.config, train.tokens, label, sentences)
    written = [sentence for part in test.tokens.split(512) for sentence in captioner.generate(part)]
    right = [sentence == sentences[index] for sentence, index in zip(written, truth.tolist(), strict=True)]
    scores = {"captioner": torch.tensor(right, device=data.device).float(), "chance": majority(label, truth)}
    few = slice(0, None, max(1, len(test.episode) // _EXPORTED))
    about = {
        "task": data.task,
        "clip_frames": data.encoder.clip_frames,
        "action_repeat": data.test.metadata.action_repeat,
        "sentences": [sentences[index] for index in truth[few].tolist()],
    }
    export_tokens(data.folder / "tokens", test.tokens[few], data.encoder.token_grid, about)
    return [
        row
        for probe, hits in scores.items()
        for row in scored(data, probe, ["exact sentence"], weighted_mean(hits), test.episode)
    ]
