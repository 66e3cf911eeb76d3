"""Data collection: what a policy does in a batch of worlds, written to replay."""

import torch
from tensordict import TensorDict, TensorDictBase

from mindreel.agents.protocols import BatchedWorlds, FeatureEncoder, Policy
from mindreel.agents.replay import Replay
from mindreel.agents.rollout_worker import NOISE_CORRELATION, RolloutWorker, Transition

_STORED = ("pixels", "state", "behaviour")


class Collector:
    """Steps the worlds with a policy and writes what happens to replay.

    Args:
        env: batch of worlds.
        encoder: what the policy sees through.
        replay: where transitions go.
        store_latents: whether features are stored; not for an encoder that changes at every update.
        noise_correlation: correlation of the exploration noise from one decision to the next.
    """

    def __init__(
        self,
        env: BatchedWorlds,
        encoder: FeatureEncoder,
        replay: Replay,
        store_latents: bool,
        noise_correlation: float = NOISE_CORRELATION,
    ):
        self.env, self.encoder, self.replay, self.store_latents = env, encoder, replay, store_latents
        self.worker = RolloutWorker(env, encoder, noise_correlation, encode_final=store_latents)
        self.returns = torch.zeros(self.worker.first.shape, device=env.device)

    def step(self, policy: Policy | None, noise: float, encoder_id: str) -> list[float]:
        """One decision in every world.

        Args:
            policy: how to act; None for noise alone.
            noise: standard deviation of the correlated noise added to the policy's actions.
            encoder_id: identity of the encoder, stored with the latents.

        Returns:
            returns of the episodes that ended.
        """
        transition = self.worker.step(policy, noise)
        self._store(transition, encoder_id)
        self.returns += transition.reward
        ended = self.returns[transition.done].tolist()
        self.returns = torch.where(transition.done, 0.0, self.returns)
        return ended

    def _store(self, step: Transition, encoder_id: str) -> None:
        now, final = self._row(step.observation), self._row(step.next_observation)
        if self.store_latents:
            assert step.features is not None
            features = torch.zeros_like(step.features) if step.final_features is None else step.final_features
            now["latent"], final["latent"] = step.features.to(torch.float16), features.to(torch.float16)
        self.replay.add(now, step.action, step.reward, step.terminated, step.done, final, encoder_id)

    def _row(self, observation: TensorDictBase) -> TensorDict:
        keys = [key for key in _STORED if key in observation.keys()]
        return TensorDict({key: observation[key] for key in keys}, batch_size=observation.batch_size)

    def reencode(self, encoder_id: str) -> None:
        """Encodes replay and the present observation again, after a change of the encoder to this identity."""
        if self.store_latents and self.encoder.clip_frames:
            self.replay.reencode(self.encoder, encoder_id)
            self.worker.reencode()

    def state_dict(self) -> dict:
        """Everything that changes while collecting, the worlds included."""
        return self.worker.state_dict() | {"returns": self.returns}

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`."""
        self.worker.load_state_dict(state)
        self.returns = state["returns"]
        if not self.env.resumes_exactly:  # other episodes have begun
            self.replay.cut()
            self.returns = torch.zeros_like(self.returns)
