"""Refine a reward model with preferences, and serve it.

    python examples/refine_and_serve.py my-reward-model prefs.jsonl --out runs/model --port 8000

Then http://127.0.0.1:8000 is a page, and OpenRLHF takes rewards from http://127.0.0.1:8000/get_reward.
"""

from __future__ import annotations

import argparse

from qbrm import EnergyRewardModel, sample_source
from qbrm.serving import serve
from qbrm.serving.settings import ServerSettings


def main() -> None:
    """Fit, save, serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reward_model", nargs="?", default="all-MiniLM-L6-v2", help="folder or id on the Hub")
    parser.add_argument("preferences", nargs="?", default=str(sample_source()), help="JSONL, Parquet or RMB folder")
    parser.add_argument("--out", default="runs/model", help="folder for the model")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free one")
    arguments = parser.parse_args()

    model = EnergyRewardModel.fit(arguments.reward_model, arguments.preferences, out=arguments.out)
    print(model.verdict["sentence"])
    model.save_pretrained(arguments.out)
    serve(ServerSettings(arguments.out, port=arguments.port), print)


if __name__ == "__main__":
    main()
