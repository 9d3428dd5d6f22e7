"""What everything else rests on, and what knows nothing of it: errors, draws, tables, notation, compilation, workers."""
