"""Drawing rollouts and grading them."""

import os

# torch's threads wait for each other by spinning, which stalls them all as soon as another program
# takes a core (several times slower beside one busy process). Sleeping instead costs little on a
# quiet machine. OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
