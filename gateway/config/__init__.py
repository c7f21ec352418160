"""gateway.toml as validated models: ``load(path) -> Config``."""

from gateway.config.document import Config
from gateway.config.loader import load
from gateway.config.problem import ConfigError, Problem

__all__ = ["Config", "ConfigError", "Problem", "load"]
