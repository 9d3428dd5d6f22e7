"""How a plan is found: expectations, program, search, plan, validation."""
