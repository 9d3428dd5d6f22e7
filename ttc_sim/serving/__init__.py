"""What serves the models: step time of a server, limits and prices of an endpoint."""
