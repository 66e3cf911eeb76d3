"""Movies in which something happens that cannot, each beside the same movie without it."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mindreel.envs.checks.impossible import CHANGES, carried_over, outer_joints, teleport
from mindreel.envs.generator import WorldGenerator
from mindreel.envs.make import make_task
from mindreel.envs.warp.cameras import RenderConfig
from mindreel.envs.warp.randomize import RandomizeConfig, Randomizer, textures_for, varied_fields
from mindreel.envs.warp.simulation import WarpSim

VIOLATIONS = (
    "teleport",  # a body is elsewhere from one frame to the next
    "vanish",  # a body is gone
    "swap",  # a body has another shape and colour
    "reverse",  # the movie runs backwards
    "gravity",  # things fall upwards
    "friction",  # joints turn as if in honey
    "freeze",  # some joints stop while the others move on
    "hidden_vanish",  # a body is gone when the screen before it is, or there is one where none was
    "hidden_teleport",  # it is elsewhere when the screen is gone
)
HIDDEN = 4  # frames for which the screen stands
_GREY = 128
_LEVELS, _PIXELS = 8, 4  # two pictures differ if so many of their pixels do by more than so many grey levels
_PAINTED = ("", "vanish", "swap")  # looks that a movie is drawn in while it is simulated

State = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Of the worlds, and of what is random in them."""


@dataclass(frozen=True)
class Movie:
    """What happens in M worlds over T decisions."""

    frames: Tensor
    """uint8 (M, T + 1, 3, H, W)."""
    action: Tensor
    """Actions in [-1, 1] between the frames, (M, T, A)."""
    qpos: Tensor
    """Generalised positions in each frame, (M, T + 1, nq)."""


@dataclass(frozen=True)
class Pair:
    """A movie as it should be and as it cannot be; to the bit the same until `before`."""

    possible: Movie
    impossible: Movie
    """Its actions are other than those of the possible one only where time is reversed."""
    before: int
    """The last frame before the violation, and before the screen that hides it; -1 where time is reversed."""
    after: int
    """The first frame that can show it: one later, or the one in which the screen is gone."""
    differs: Tensor
    """Movies to compare, (M,) bool: no world broke, and the two can be told apart. Gravity moves no arm on a table."""


@dataclass(frozen=True)
class _Take:
    """Some frames of a movie in several looks."""

    frames: dict[str, Tensor]
    """Look -> uint8 (M, t, 3, H, W)."""
    qpos: Tensor
    """(M, t, nq)."""
    whole: Tensor
    """Worlds that did not break, (M,) bool."""


class Stage:
    """Worlds of one task that play recorded actions from recorded states, and break physics on demand.

    What is random in the worlds is drawn anew, the same for both movies of a pair: it is not recorded. Nor are
    activations of muscles and the like, so all movies start from none.

    Args:
        task: a name of `TASKS`, or the path of a task's file.
        movies: number of movies made at once, M.
        device: as for `WarpSim`.
        render: camera and picture size.
        action_repeat: control steps for which one action holds.
        frame_skip, max_contacts, max_constraints, randomize: as for `WarpEnv`.
        seed: of what is random in the worlds, and of where bodies are moved to.
    """

    def __init__(
        self,
        task: str,
        movies: int,
        device: torch.device | str,
        render: RenderConfig,
        action_repeat: int,
        frame_skip: int | None = None,
        max_contacts: int | None = None,
        max_constraints: int | None = None,
        randomize: RandomizeConfig = RandomizeConfig(),  # noqa: B008 (frozen)
        seed: int = 0,
    ):
        self.task, self.movies, self.device = task, movies, device
        self.render, self.action_repeat, self.frame_skip = render, action_repeat, frame_skip
        self.max_contacts, self.max_constraints = max_contacts, max_constraints
        self.randomize, self.seed = randomize, seed
        self._sims: dict[str, WarpSim] = {}
        sim = self._sim("")
        self._randomizer = Randomizer(randomize, sim, render)
        self.decision_seconds = float(sim.mj_model.opt.timestep) * sim.substeps * action_repeat

    def pairs(
        self, start: dict[str, Tensor], action: Tensor, at: int, violations: tuple[str, ...] = VIOLATIONS
    ) -> Iterator[tuple[str, Pair]]:
        """Movies with and without each violation, by its name.

        All is played once until the violation; from there on both movies go on from the same state of the worlds.

        Object permanence is tested as in IntPhys (Riochet et al. 2018): the body is seen, a screen comes before it,
        and as long as the screen stands both movies are the same to the bit. Then it is gone, and so may be the body.
        Every other pair of `hidden_vanish` is the other way round, a body where none was: what the screen reveals
        is then as often the body in possible movies as in impossible ones, as in the matched sets there.

        Args:
            start: `qpos`, `qvel` and `geom_xpos` of the first frame, (M, ...).
            action: in [-1, 1], (M, T, A).
            at: the last frame before the violation.
            violations: some of `VIOLATIONS`.

        Raises:
            ValueError: for an unknown violation, or movies too short for a screen.
        """
        unknown = set(violations) - set(VIOLATIONS)
        if unknown:
            raise ValueError(f"Unknown violation {min(unknown)!r}: expected one of {', '.join(VIOLATIONS)}.")
        if action.shape[1] <= at + HIDDEN:
            raise ValueError(f"A screen needs {HIDDEN + 1} decisions after frame {at}; movies have {action.shape[1]}.")
        return self._pairs(start, action, at, violations)

    def _pairs(self, start, action: Tensor, at: int, violations: tuple[str, ...]) -> Iterator[tuple[str, Pair]]:
        self._begin(start)
        before = self._play(action[:, :at], 0, _PAINTED, first=True)
        moment = self._state()
        after = self._play(action[:, at:], at, _PAINTED, state=moment)

        def movie(look: str, later: _Take, later_look: str) -> Movie:
            frames = torch.cat([before.frames[look], later.frames[later_look]], 1)
            return Movie(frames, action, torch.cat([before.qpos, later.qpos], 1))

        real = movie("", after, "")
        for violation in violations:
            change, later, possible = violation.removeprefix("hidden_"), after, real
            if violation == "reverse":
                impossible = Movie(*(x.flip(1) for x in (real.frames, real.action, real.qpos)))
            elif change in _PAINTED:
                impossible = movie("", after, change)
            else:
                later = self._play(action[:, at:], at, ("",), change, moment)
                impossible = movie("", later, "")
            if violation == "hidden_vanish":
                possible = _every_other(real, movie(change, after, change))
                impossible = _every_other(impossible, movie(change, after, ""))
            shown = (-1, 0) if violation == "reverse" else (at, at + 1)
            if change != violation:
                shown = at, at + 1 + HIDDEN
                possible, impossible = _behind_a_screen(possible, impossible, *shown)
            told_apart = _differ(possible.frames[:, shown[1] :], impossible.frames[:, shown[1] :])
            whole = before.whole & after.whole & later.whole
            yield violation, Pair(possible, impossible, *shown, whole & told_apart)

    # ---- simulating ----

    def _begin(self, start: dict[str, Tensor]) -> None:
        """The first frame's state, with nothing left of what was played before."""
        sim, everywhere = self._sim(""), torch.ones(self.movies, dtype=torch.bool, device=self._sim("").device)
        sim.reset(everywhere)
        self._randomizer.reset(everywhere, WorldGenerator(self.seed, self.movies))
        for name, value in start.items():
            sim.data(name).copy_(value)
        sim.forward()

    def _play(
        self,
        action: Tensor,
        decision: int,
        looks: tuple[str, ...],
        change: str = "",
        state: State | None = None,
        first: bool = False,
    ) -> _Take:
        """What actions (M, t, A) lead to: a frame after each of them, and one before them if it is the `first`.

        Args:
            action: in [-1, 1].
            decision: number of the first of them in its movie.
            looks: names of `CHANGES` that only the pictures show.
            change: what is done to physics: a name of `CHANGES`, "teleport" or "freeze".
            state: what to go on from; from the present one if None.
            first: whether the present state is drawn too.
        """
        base = self._sim("")
        sim = self._sim(change) if change in CHANGES else base
        if state is not None:
            sim.load_state(carried_over(state[0], base.mj_model, sim.mj_model))
            self._randomizer.load_state(state[1])
        if change == "teleport":
            teleport(sim, torch.Generator().manual_seed(self.seed))
        places, speeds = outer_joints(sim.mj_model)
        frozen = sim.qpos[:, places:].clone() if change == "freeze" else None
        frames, qpos, whole = [self._draw(sim, looks, decision)] if first else [], [sim.qpos.clone()], ~sim.broken()
        for t in range(action.shape[1]):
            control = (sim.ctrl_low + sim.ctrl_high) / 2 + (sim.ctrl_high - sim.ctrl_low) / 2 * action[:, t]
            for _ in range(self.action_repeat):
                sim.ctrl.copy_(self._randomizer.arriving(control))
                sim.step()
                if frozen is not None:
                    sim.qpos[:, places:], sim.qvel[:, speeds:] = frozen, 0
                    sim.forward()
            frames.append(self._draw(sim, looks, decision + t + 1))
            qpos.append(sim.qpos.clone())
            whole &= ~sim.broken()
        drawn = {look: torch.stack([frame[look] for frame in frames], 1) for look in looks}
        return _Take(drawn, torch.stack(qpos[0 if first else 1 :], 1), whole)

    def _draw(self, sim: WarpSim, looks: tuple[str, ...], decision: int) -> dict[str, Tensor]:
        """The worlds as they are now in each look: uint8 (M, 3, H, W)."""
        pictures = {}
        for look in looks:
            painter = self._sim(look) if look else sim
            if look:
                painter.load_state(carried_over(sim.state(), sim.mj_model, painter.mj_model))
            drawn = painter.pictures()
            self._randomizer.paint(drawn, torch.full((self.movies,), decision * self.decision_seconds).to(sim.device))
            pictures[look] = drawn["pixels"]
        return pictures

    def _state(self) -> State:
        return self._sim("").state(), self._randomizer.state()

    def _sim(self, change: str) -> WarpSim:
        """Worlds whose model is changed in one way; made once."""
        if change not in self._sims:
            task = make_task(self.task)
            varied = varied_fields(self.randomize, task.model)
            CHANGES[change](task.model)
            self._sims[change] = WarpSim(
                task.model,
                self.movies,
                self.device,
                substeps=self.frame_skip or task.substeps,
                render=self.render,
                draw=("pixels", "segmentation") if self.randomize.whole.background else ("pixels",),
                per_world=tuple(dict.fromkeys((*task.per_world, *varied))),
                textures=textures_for(self.randomize),
                max_contacts=self.max_contacts,
                max_constraints=self.max_constraints or task.max_constraints,
            )
        return self._sims[change]


# ---- pictures ----


def _different(possible: Tensor, impossible: Tensor) -> Tensor:
    """Pixels in which frames uint8 (..., 3, H, W) clearly differ: (..., H, W). A level or two is noise."""
    return (possible.int() - impossible.int()).abs().amax(-3) > _LEVELS


def _differ(possible: Tensor, impossible: Tensor) -> Tensor:
    """Movies, frames (M, t, 3, H, W), that clearly differ in some frame: (M,)."""
    return (_different(possible, impossible).flatten(2).sum(2) >= _PIXELS).any(1)


def _every_other(even: Movie, odd: Movie) -> Movie:
    """Worlds 0, 2, 4, ... of one and 1, 3, 5, ... of the other; they differ in looks alone."""
    frames = even.frames.clone()
    frames[1::2] = odd.frames[1::2]
    return Movie(frames, even.action, even.qpos)


def _behind_a_screen(possible: Movie, impossible: Movie, before: int, after: int) -> tuple[Movie, Movie]:
    """Both with a grey screen before all that differs, in the frames between `before` and `after`."""
    hidden = slice(before + 1, after)
    marked = _different(possible.frames[:, hidden], impossible.frames[:, hidden]).any(1)  # (M, H, W)
    covered = _span(marked.any(2))[:, :, None] & _span(marked.any(1))[:, None]  # (M, H, W)
    screened = torch.where(covered[:, None, None], _GREY, possible.frames[:, hidden])
    movies = []
    for movie in (possible, impossible):
        frames = movie.frames.clone()
        frames[:, hidden] = screened  # of both: what is left of a difference beside the screen is noise
        movies.append(Movie(frames, movie.action, movie.qpos))
    return movies[0], movies[1]


def _span(marked: Tensor) -> Tensor:
    """From the first to the last mark of each row, and what lies between: (M, n) bool."""
    begun = marked.int().cumsum(1) > 0
    return begun & (marked.flip(1).int().cumsum(1) > 0).flip(1)
