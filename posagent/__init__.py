"""posagent: the update agent of a payment terminal."""

__version__ = "0.1.0"
