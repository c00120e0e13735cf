"""Parts of the benchmarks of simulators: one side of a comparison in a process of its own, LIBERO's own side, costs."""
