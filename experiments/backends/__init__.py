"""The engines: embedders, language models, trainers. The network is reached from here or from nowhere in experiments/."""

import os

# Before torch is loaded: its threads would spin while they wait, and on a machine with other work each step then waits for
# the scheduler (measured on two cores beside one busy process: generation 4 to 9 s instead of 93 to 110 s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
