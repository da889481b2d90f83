"""``python -m tests.simulation SEED [ENGINE]`` runs one schedule again and prints what happened."""

from __future__ import annotations

import sys

from tests.simulation.schedule import Simulation

if __name__ == "__main__":
    simulation = Simulation(int(sys.argv[1]), *sys.argv[2:3])
    simulation.run()
    print("\n".join(simulation.trace))
