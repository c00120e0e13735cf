"""Parts of the benchmarks of training: which runs there are, and what is written about them."""
