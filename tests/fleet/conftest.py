"""The release desk and web server of the integration tests, for terminals of a fleet."""

from tests.integration.conftest import lab as lab
