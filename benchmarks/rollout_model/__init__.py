"""How many episodes per minute a layout of hosts, learners and slots would do: the rollout as discrete events.

The model follows ``pi0/ript/env/rollout/scheduler.py``: a worker runs the requests of its slots one after the other;
the scheduler takes whatever has finished and calls the policy once there is a full batch or a worker without
work; a slot whose episode has ended begins the next one at once. Costs are inputs, measured by
``benchmarks/scaling.py``. Ranks of a torchrun job collect independently of each other, so one rank with its
share of hosts and slots is simulated and counted as many times as there are learners.
"""
