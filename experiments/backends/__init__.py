"""The engines: embedders, language models, trainers. The network is reached from here or from nowhere in experiments/."""

import os

from common.urls import without_secrets

# Before torch is loaded: its threads would spin while they wait, and on a machine with other work each step then waits for
# the scheduler (measured on two cores beside one busy process: generation 4 to 9 s instead of 93 to 110 s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Before any description or message holds it: Ollama's client does not send the user and the password of this address.
if "OLLAMA_HOST" in os.environ:
    os.environ["OLLAMA_HOST"] = without_secrets(os.environ["OLLAMA_HOST"])
