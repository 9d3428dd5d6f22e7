"""From a scenario to figures: draws, policy, work, engine, bill, summary."""
