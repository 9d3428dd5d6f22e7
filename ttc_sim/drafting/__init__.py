"""A scenario from an import: what ``ttc-sim scenario init`` writes, and what it assumes where the log says nothing."""
