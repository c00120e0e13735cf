"""Parts of the benchmarks of networks: models of three sizes, and stages that run in a process of their own."""
