"""Refine a reward model with preferences, save it, and serve it.

    python examples/refine_and_serve.py --preferences prefs.jsonl --reward-model my-reward-model

Then open http://127.0.0.1:8000, or ask:

    curl --json '{"prompt": "Hello?", "a": "Hello.", "b": "No."}' localhost:8000/v1/prefer
"""

import argparse

from qbrm import EnergyRewardModel, sample_source
from qbrm.serving import serve
from qbrm.serving.settings import ServerSettings


def main() -> None:
    """Fit, save, and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preferences", help="file or folder; without it, the bundled sample set")
    parser.add_argument("--reward-model", default="all-MiniLM-L6-v2", help="folder, or id on the Hugging Face Hub")
    parser.add_argument("--out", default="runs/served")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free one")
    options = parser.parse_args()

    model = EnergyRewardModel.fit(
        options.reward_model,
        options.preferences or sample_source(),
        gate=True,
        progress=lambda step, done, total: print(f"{step}: {done} of {total}", flush=True) if done == total else None,
    )
    model.save_pretrained(options.out)
    serve(ServerSettings(options.out, port=options.port), lambda *told: print(*told, flush=True))


if __name__ == "__main__":
    main()
