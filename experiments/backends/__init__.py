"""Backends: the only place where a model is loaded or called."""
