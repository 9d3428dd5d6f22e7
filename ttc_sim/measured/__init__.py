"""What was measured: profiles, the problems they share, traffic."""
