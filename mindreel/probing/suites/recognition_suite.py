"""Which policy, behaviour or task a clip shows."""

import torch
from torch import Tensor

from mindreel.encoders.probes.attentive import attentive_predictions
from mindreel.encoders.probes.bootstrap import weighted_mean
from mindreel.encoders.probes.recognition import correct, logistic_predictions, majority
from mindreel.probing.probe_data import DrawnFrames, ProbeData
from mindreel.probing.suites.scoring import FAR, scored


def recognition(data: ProbeData) -> list[dict]:
    """Accuracy at recognising policy, behaviour and task, with that of the commonest class for comparison."""
    rows = []
    train, test = data.drawn(lambda rollouts: None)
    label = [part.rollouts.policy[part.episode].to(data.device) for part in (train, test)]
    rows += _classified(data, "policy", len(train.rollouts.metadata.policies), (train, test), label)
    if data.train.metadata.behaviours:
        known = data.drawn(lambda rollouts: rollouts.behaviour >= 0)
        if all(len(part.episode) for part in known):
            label = [part.of(part.rollouts.behaviour) for part in known]
            rows += _classified(data, "behaviour", len(data.train.metadata.behaviours), known, label)
    return rows + (_tasks(data) if data.others else [])


def _classified(
    data: ProbeData, target: str, classes: int, parts: tuple[DrawnFrames, DrawnFrames], label: list[Tensor]
) -> list[dict]:
    train, test = parts
    linear = logistic_predictions(train.features, label[0], classes, test.features)
    attentive = attentive_predictions(data.config, train.tokens, label[0], test.tokens, classes)
    return _accuracies(data, target, {"linear": linear, "attentive": attentive}, label, test.episode)


def _accuracies(
    data: ProbeData, target: str, logits: dict[str, Tensor], label: list[Tensor], episode: Tensor
) -> list[dict]:
    right = {probe: correct(guess, label[1]) for probe, guess in logits.items()} | {"chance": majority(*label)}
    return [row for probe, hits in right.items() for row in scored(data, probe, [target], weighted_mean(hits), episode)]


def _tasks(data: ProbeData) -> list[dict]:
    """Accuracy at recognising which task a clip shows, among clips of all tasks that are compared."""
    datasets = {data.task: (data.train, data.test)} | data.others
    wanted = data.config.rows, data.config.held_out_rows
    sizes = [min(rows, data.affordable) // len(datasets) for rows in wanted]
    features, tokens, label, episodes = ([], []), ([], []), ([], []), []
    for index, pair in enumerate(datasets.values()):
        for part, (rollouts, size) in enumerate(zip(pair, sizes, strict=True)):
            episode, step = data.some(rollouts, size)
            features[part].append(data.read(data.encoder, rollouts, episode, step).float())
            tokens[part].append(data.read(data.encoder.tokens, rollouts, episode, step))
            label[part].append(torch.full((len(episode),), index, device=data.device))
        episodes.append(episode + index * FAR)  # of the held-out part, which came last
    x, test_x = (torch.cat(parts) for parts in features)
    x_tokens, test_tokens = (torch.cat(parts) for parts in tokens)
    labels = [torch.cat(parts) for parts in label]
    logits = {
        "linear": logistic_predictions(x, labels[0], len(datasets), test_x),
        "attentive": attentive_predictions(data.config, x_tokens, labels[0], test_tokens, len(datasets)),
    }
    return _accuracies(data, "task", logits, labels, torch.cat(episodes))
