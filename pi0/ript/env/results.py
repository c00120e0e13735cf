"""What callers of a runner get for every episode, in the order in which they asked for it."""

from collections.abc import Generator
from contextlib import closing

from pi0.ript.env.episode_view import EpisodeView, episode_view
from pi0.ript.types import Episode

Result = tuple[bool, float, EpisodeView]
"""Success, total reward (0 or 1, NaN if the simulator crashed) and the episode."""


def in_request_order(episodes: Generator[Episode, None, None]) -> Generator[Result, None, None]:
    """Yield every result as soon as its episode and those of the rollouts before it have finished."""
    early: dict[int, Episode] = {}
    due = 0
    with closing(episodes):
        for episode in episodes:
            early[episode.request.rollout] = episode
            while due in early:
                yield _result(early.pop(due))
                due += 1


def _result(episode: Episode) -> Result:
    view = episode_view(episode)
    return view["success"], view["total_reward"], view
