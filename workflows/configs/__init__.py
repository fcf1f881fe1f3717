"""Choices of settings, as TOML files for --config."""
