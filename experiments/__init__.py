"""The evidence behind the project's numbers: each runs as python -m experiments.NAME."""
