"""A plan tried on one machine: an OpenAI-compatible proxy whose requests go where the plan sends them."""
