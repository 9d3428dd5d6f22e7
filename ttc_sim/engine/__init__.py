"""Engines: what happens to work on its way through the deployments."""
