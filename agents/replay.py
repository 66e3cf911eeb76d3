"""The replay buffer: frames, stored once, the latents that the encoder made of them, and sequences drawn from both.

Rows are observations in order of time, world by world. Row i holds the observation and, unless it is the
last of its episode, the action taken there with its reward and termination. The observation that ends an
episode has a row of its own, so nothing is bootstrapped from the first frame of the next episode.
"""

import logging
import os
from collections.abc import Iterator

import torch
from einops import rearrange
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import LazyTensorStorage

from mindreel.agents.protocols import FeatureEncoder

if "RL_LOGGING_LEVEL" not in os.environ:  # torchrl announces every storage it makes
    logging.getLogger("torchrl").setLevel(logging.WARNING)


class StaleLatentsError(RuntimeError):
    """Latents of two encoders would be mixed."""


class Replay:
    """A ring of rows for each world, and sequences drawn from them that never cross an episode or a world.

    Args:
        capacity: rows to keep, over all worlds; the oldest are overwritten.
        num_worlds: worlds that write, B.
        device: where rows rest and batches are made.
    """

    def __init__(self, capacity: int, num_worlds: int, device: torch.device | str = "cpu"):
        self.rows = capacity // num_worlds
        if self.rows < 2:
            raise ValueError(f"A replay of {capacity} rows is too small for {num_worlds} worlds: give each at least 2.")
        self.num_worlds = num_worlds
        self.device = torch.device(device)
        self.storage = LazyTensorStorage(self.rows * num_worlds, device=self.device)
        self.encoder_id: str | None = None
        # Where each world writes next, how many rows it has written in all, and its present episode.
        self._written = torch.zeros(num_worlds, dtype=torch.long, device=self.device)
        self._episode = torch.zeros(num_worlds, dtype=torch.long, device=self.device)
        self._offset = torch.arange(num_worlds, device=self.device) * self.rows

    @property
    def _data(self) -> TensorDict:
        return self.storage._storage  # the TensorDict itself: `storage[...]` with one index would copy every entry

    def __len__(self) -> int:
        """Rows that are filled."""
        return int(self._written.clamp(max=self.rows).sum())

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of a row's entries; none before the first row."""
        return tuple(map(str, self._data.keys())) if len(self.storage) else ()

    def column(self, key: str) -> Tensor:
        """One entry of every filled row, world by world, (N, ...)."""
        by_world = rearrange(self._data[key], "(b r) ... -> b r ...", b=self.num_worlds)
        return torch.cat([rows[:count] for rows, count in zip(by_world, self._written.tolist(), strict=True)])

    # ---- writing ----

    def add(
        self,
        observation: TensorDict,
        action: Tensor,
        reward: Tensor,
        terminated: Tensor,
        done: Tensor,
        final: TensorDict,
        encoder_id: str,
    ) -> None:
        """Writes one step of all worlds.

        Args:
            observation: what the worlds showed, batch (B,); entries such as `pixels` (uint8), `latent`.
            action: what was done there, (B, A).
            reward: what it gave, (B,).
            terminated: whether the episode ended for good, (B,) bool.
            done: whether the episode ended at all, (B,) bool.
            final: the observations after the step, batch (B,), kept where `done`.
            encoder_id: identity of the encoder that made `latent`.

        Raises:
            StaleLatentsError: the replay holds latents of another encoder.
        """
        if "latent" in observation.keys():
            self._check_encoder(encoder_id)
        blank = torch.zeros_like(reward)
        self._write(observation, action, reward, terminated, torch.ones_like(done))
        self._write(final, torch.zeros_like(action), blank, torch.zeros_like(terminated), done)
        self._episode += done

    def cut(self) -> None:
        """Ends every world's episode here: what is written next belongs to new ones."""
        self._episode += 1

    def _write(self, observation: TensorDict, action: Tensor, reward: Tensor, terminated: Tensor, mask: Tensor) -> None:
        worlds = mask.nonzero().squeeze(-1)
        if worlds.numel() == 0:
            return
        index = self._offset[worlds] + self._written[worlds] % self.rows
        row = TensorDict({key: value[worlds] for key, value in observation.items()}, batch_size=[len(worlds)])
        row["action"], row["reward"], row["terminated"] = action[worlds], reward[worlds], terminated[worlds]
        row["episode"] = self._episode[worlds]
        if len(self.storage) == 0:  # the storage takes its shapes from the first row it sees
            self._allocate(row[:1])
        self.storage.set(index, row.to(self.device))  # pyright: ignore[reportArgumentType]
        self._written[worlds] += 1

    def _check_encoder(self, encoder_id: str) -> None:
        if self.encoder_id is None:
            self.encoder_id = encoder_id
        if encoder_id != self.encoder_id:
            raise StaleLatentsError(
                f"The replay holds latents of encoder {self.encoder_id}, and {encoder_id} was to be mixed with them. "
                "Re-encode the replay (Replay.reencode) after every change of the encoder."
            )

    # ---- reading ----

    def sample(
        self, batch_size: int, steps: int, keys: tuple[str, ...], clip_frames: int = 0, in_order: bool = False
    ) -> TensorDict:
        """Draws sequences of `steps` transitions uniformly over those that lie in one episode.

        Args:
            batch_size: sequences, B.
            steps: transitions T in each; there are T + 1 observations.
            keys: observation entries wanted, each (B, T + 1, ...).
            clip_frames: frames F of a clip. If not 0, the batch holds `frames`: the F - 1 frames before the first
                observation and all T + 1 from there, uint8 (B, F + T, 3, H, W). Before an episode's first frame
                that frame is repeated.
            in_order: whether the sequences are sorted by world and time.

        Returns:
            a TensorDict with batch (B,): `action` (B, T, A), `reward` (B, T), `terminated` (B, T) and the rest.

        Raises:
            ValueError: no stored episode is as long as that.
        """
        world, first = self._starts(batch_size, steps)
        if in_order:
            order = (world * (int(self._written.max()) + 1) + first).argsort()
            world, first = world[order], first[order]
        when = first[:, None] + torch.arange(steps + 1, device=self.device)  # (B, T + 1)
        index = self._offset[world][:, None] + when % self.rows
        data = self._data
        batch = TensorDict({key: data[key][index] for key in keys}, batch_size=[batch_size], device=self.device)
        for key in ("action", "reward", "terminated"):
            batch[key] = data[key][index[:, :-1]]
        if clip_frames:
            batch["frames"] = data["pixels"][self._clip_index(world, first, clip_frames, steps)]
        return batch

    def _starts(self, batch_size: int, steps: int) -> tuple[Tensor, Tensor]:
        """Worlds and first rows of random sequences inside one episode: (B,), (B,)."""
        filled = self._written.clamp(max=self.rows)  # (worlds,)
        choices = (filled - steps).clamp(min=0)
        if not choices.any():
            raise ValueError(
                f"The replay holds no sequence of {steps} steps yet: collect more, or ask for fewer steps."
            )
        episode = self._data["episode"]
        found_world, found_first, found = [], [], 0
        for _ in range(100):  # a draw that crosses an episode's end is drawn again
            world = torch.multinomial(choices.float(), 2 * batch_size, replacement=True)
            back = (torch.rand(2 * batch_size, device=self.device) * choices[world]).long()
            first = self._written[world] - filled[world] + back
            begin = self._offset[world] + first % self.rows
            end = self._offset[world] + (first + steps) % self.rows
            inside = episode[begin] == episode[end]
            found_world.append(world[inside])
            found_first.append(first[inside])
            found += int(inside.sum())
            if found >= batch_size:
                return torch.cat(found_world)[:batch_size], torch.cat(found_first)[:batch_size]
        raise ValueError(f"No stored episode seems to have {steps} steps: ask for shorter sequences.")

    def _clip_index(self, world: Tensor, first: Tensor, clip_frames: int, steps: int) -> Tensor:
        """Rows of the frames of clips, (B, F + T), none from before the first row's episode."""
        episode = self._data["episode"]
        offset = self._offset[world]
        oldest = (self._written[world] - self.rows).clamp(min=0)
        rows = [first]
        same = episode[offset + first % self.rows]
        for _ in range(clip_frames - 1):
            previous = (rows[0] - 1).maximum(oldest)
            inside = episode[offset + previous % self.rows] == same
            rows.insert(0, torch.where(inside, previous, rows[0]))
        rows += [first + t for t in range(1, steps + 1)]
        return offset[:, None] + torch.stack(rows, 1) % self.rows

    def clips(self, clip_frames: int, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every filled row with its clip: pairs of row indices (C,) and uint8 (C, F, 3, H, W)."""
        for world in range(self.num_worlds):
            written = int(self._written[world])
            first = torch.arange(max(0, written - self.rows), written, device=self.device)
            for part in first.split(chunk) if written else ():
                worlds = torch.full_like(part, world)
                frames = self._data["pixels"][self._clip_index(worlds, part, clip_frames, 0)]
                yield self._offset[world] + part % self.rows, frames

    @torch.no_grad()
    def reencode(self, encoder: FeatureEncoder, encoder_id: str, chunk: int = 256) -> None:
        """Replaces every latent by what this encoder makes of its clip."""
        for index, clips in self.clips(encoder.clip_frames, chunk):
            self._data["latent"][index] = encoder(clips).to(self._data["latent"].dtype)
        self.encoder_id = encoder_id

    # ---- checkpoints ----

    def state_dict(self) -> dict:
        """Rows that are filled, and the counters."""
        filled = int(self._written.max().clamp(max=self.rows))
        data = {}
        if len(self.storage):
            by_world = self._data.view(self.num_worlds, self.rows)[:, :filled]
            data = {key: value.clone() for key, value in by_world.items()}  # (worlds, filled, ...)
        return {
            "data": data,
            "written": self._written.clone(),
            "episode": self._episode.clone(),
            "encoder_id": self.encoder_id or "",
        }

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`, into a replay of the same capacity and number of worlds.

        Raises:
            ValueError: the saved replay had another number of worlds, or its rows do not fit this capacity.
        """
        if state["written"].shape != self._written.shape or int(state["written"].max()) and not state["data"]:
            raise ValueError(
                f"The saved replay has {len(state['written'])} worlds, this one has {self.num_worlds}: use the same."
            )
        filled = next(iter(state["data"].values())).shape[1] if state["data"] else 0
        wrapped = int(state["written"].max()) > filled  # a ring that has wrapped fits no other length
        if filled > self.rows or (wrapped and filled != self.rows):
            raise ValueError(
                f"The saved replay has {filled} rows for each world, this one room for {self.rows}: use the same "
                "capacity."
            )
        self._written.copy_(state["written"])
        self._episode.copy_(state["episode"])
        self.encoder_id = state["encoder_id"] or None
        if not state["data"]:
            return
        rows = TensorDict(state["data"], batch_size=[self.num_worlds, filled])
        self._allocate(rows[:1, 0])
        self._data.view(self.num_worlds, self.rows)[:, :filled] = rows

    def _allocate(self, row: TensorDict) -> None:
        """Makes room for all rows, shaped as `row`, batch (1,); memory is taken as rows fill."""
        self.storage.set([0], row)
