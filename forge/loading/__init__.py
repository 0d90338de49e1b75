"""TOML to a graph of targets: reads files, nothing else."""
