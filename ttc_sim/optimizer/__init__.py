"""How a plan is found: options, program, search, plan, validation."""
