"""How the science is run: the command, sweeps on Ray, clusters."""

import gc

# Imports make millions of objects that stay. To look for garbage whenever 700 are new would take a
# quarter of every start.
gc.set_threshold(10_000)
