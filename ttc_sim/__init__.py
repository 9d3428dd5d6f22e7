"""Plan test-time compute from measured data."""

__version__ = "0.1.0"
