"""What the simulator says beside what was measured."""
