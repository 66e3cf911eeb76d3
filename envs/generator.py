"""Random numbers for many worlds, each of which draws as if it were alone."""

import math

import numpy as np
import torch

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: steps that never repeat and are far from round


class WorldGenerator:
    """Draws for B worlds at once, on the CPU.

    What a world draws follows from the seed, the world's index, the decision and reset at which it draws, and
    how many numbers it has drawn since: not from how many other worlds there are, nor from when they reset.
    Such a generator counts and hashes the count (SplitMix64, Steele et al. 2014), so it has no state to share.

    Args:
        seed: any integer.
        num_worlds: number of worlds, B.
        first: index of the first of them.
    """

    def __init__(self, seed: int, num_worlds: int, first: int = 0):
        self._first = first
        self._worlds = np.arange(first + 1, first + num_worlds + 1, dtype=np.uint64)
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> None:
        """Goes back to the beginning of what `seed` gives."""
        self._set(seed & _WORD, 0, 0)

    def seed(self) -> None:
        """Goes to the beginning of what some unpredictable seed gives."""
        self.manual_seed(torch.Generator().seed())

    def advance(self) -> None:
        """The worlds have made one more decision."""
        self._set(self._seed, self._decision + 1, 0)

    def start(self) -> None:
        """Some worlds reset: what is drawn now was not drawn in an earlier reset."""
        self._set(self._seed, self._decision, self._reset + 1)

    def branch(self, index: int) -> "WorldGenerator":
        """A generator of other numbers for the same reset, so that two readers do not shift each other's."""
        other = WorldGenerator(_hash(self._seed + (index + 1) * _GOLDEN), len(self._worlds), self._first)
        other._set(other._seed, self._decision, self._reset)
        return other

    def uniform(self, *shape: int) -> torch.Tensor:
        """Draws from [0, 1): (B, *shape) float32, in steps of 2^-24."""
        bits = self._bits(math.prod(shape)) >> np.uint64(40)
        return torch.from_numpy(bits.astype(np.float32) * np.float32(2**-24)).view(-1, *shape)

    def normal(self, *shape: int) -> torch.Tensor:
        """Draws from the standard normal distribution: (B, *shape) float32."""
        radius, turn = self.uniform(2, *shape).unbind(1)
        return (-2 * (1 - radius).log()).sqrt() * (2 * math.pi * turn).cos()  # Box and Muller, 1958

    def integers(self, high: int, *shape: int) -> torch.Tensor:
        """Draws from 0 to `high` - 1: (B, *shape) int64."""
        bits = self._bits(math.prod(shape)) >> np.uint64(1)
        return torch.from_numpy((bits % np.uint64(high)).astype(np.int64)).view(-1, *shape)

    def state(self) -> torch.Tensor:
        """What `load_state` needs to continue from here, between resets: (3,) int64."""
        return torch.from_numpy(np.array([self._seed, self._decision, self._reset], np.uint64).view(np.int64))

    def load_state(self, state: torch.Tensor) -> None:
        """Continues from what `state` returned.

        Raises:
            ValueError: for the state of another generator.
        """
        if state.shape != (3,) or state.dtype != torch.int64:
            raise ValueError(f"The saved generator should be 3 int64, got {tuple(state.shape)} {state.dtype}.")
        self._set(*(int(x) & _WORD for x in state))

    def _set(self, seed: int, decision: int, reset: int) -> None:
        self._seed, self._decision, self._reset, self._drawn = seed, decision, reset, 0
        key = _hash(_hash(_hash(seed) + decision) + reset)
        self._keys = _scramble(np.uint64(key) + self._worlds * np.uint64(_GOLDEN))  # (B,)

    def _bits(self, count: int) -> np.ndarray:
        """The next `count` words of 64 random bits of each world, (B, count)."""
        places = np.arange(self._drawn + 1, self._drawn + count + 1, dtype=np.uint64)
        self._drawn += count
        return _scramble(self._keys[:, None] + places * np.uint64(_GOLDEN))


def _scramble(x: np.ndarray) -> np.ndarray:
    """SplitMix64's last step: each bit of a word changes half of the bits of the result."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hash(x: int) -> int:
    return int(_scramble(np.array([x & _WORD], np.uint64))[0])
