"""What is laid out where: machines, learners, simulators, and the episodes they are to do."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What it runs on. Numbers are of all ranks together.

    Attributes:
        num_hosts: Machines with simulators; the learners are on the first ones.
        num_learners: Learners, each with a scheduler and a policy of its own.
        num_slots: Episodes under way at once.
        workers_per_host: Simulator processes of a host.
        cores_per_host: Cores of a host.
        batch_size: Samples of a policy call.
        infers_on_cpu: Whether the policy takes one of the first host's cores.
        network_bytes_per_s: Of the link of a learner to the other hosts.
        latency_s: Of a message between hosts.
    """

    num_hosts: int = 1
    num_learners: int = 1
    num_slots: int
    workers_per_host: int
    cores_per_host: int
    batch_size: int
    infers_on_cpu: bool = False
    network_bytes_per_s: float = 1.25e9
    latency_s: float = 2e-4

    @property
    def slots_of_rank(self) -> int:
        """Return the slots of one rank."""
        return max(1, self.num_slots // self.num_learners)

    @property
    def workers_of_rank(self) -> int:
        """Return the workers of one rank that have a slot."""
        workers = max(1, self.num_hosts * self.workers_per_host // self.num_learners)
        return min(self.slots_of_rank, workers)

    @property
    def hosts_of_rank(self) -> int:
        """Return the hosts of one rank that have a worker."""
        return max(1, min(self.num_hosts // self.num_learners, self.workers_of_rank))

    @property
    def cores_of_rank(self) -> float:
        """Return what one rank has of the cores of a host."""
        return self.cores_per_host * min(1.0, self.num_hosts / self.num_learners)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Episodes to do.

    Attributes:
        num_episodes: Per rank.
        num_policy_steps: Of an episode.
        chunk: Control steps of a policy step.
    """

    num_episodes: int
    num_policy_steps: int = 10
    chunk: int = 10
