"""Our Ising problems in the words of other packages, and back: dimod, Kaiwu's matrices, plugins' Boltzmann machines."""

import os

# kaiwu-torch-plugin reports its usage through Kaiwu's SDK unless this says otherwise. Whoever sets it decides.
os.environ.setdefault("KPP_STATS_ENABLED", "false")
