"""Our Ising problems in the words of other packages, and back: dimod, Kaiwu's matrices, Kaiwu's Boltzmann machines."""
