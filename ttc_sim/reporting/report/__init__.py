"""One page to hand on: what a plan or a scenario comes to, for who decides and for who checks."""
