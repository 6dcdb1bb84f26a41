"""The laptop's tests use the console's terminals and engineers."""

from tests.console.conftest import certificates, visit, visits

__all__ = ["certificates", "visit", "visits"]
