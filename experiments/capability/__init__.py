"""Four small benchmarks of a model's abilities, each judged by a program."""
