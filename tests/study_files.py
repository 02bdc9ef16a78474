"""A study's files made by hand: every number is drawn, so that none is there by accident."""

import json

import numpy as np

from qbrm_lab.studies.robustness import CANDIDATE

SCORES = tuple(dict.fromkeys(("ebrm", "sqrbm", CANDIDATE)))
METHODS = ("length", "base", "mlp", *SCORES)
SETS = ("pairwise", "bon")
PARTS = {"fresh": ("prefs",), "shift": ("prefs", "prefs, Helpfulness", "prefs, Harmlessness"), "same": ("prefs",)}
LEVELS = (0.5, 0.8, 0.9, 0.95)


def made_results(seed=0, seeds=(0, 1, 2, 3, 4), methods=METHODS):
    """results.json of a study with the given methods."""
    draw = np.random.default_rng(seed).uniform
    places = [(scenario, test) for scenario, tests in PARTS.items() for test in tests]
    keys = [
        {"scenario": scenario, "method": method, "test": test, "set": name}
        for scenario, test in places
        for method in methods
        for name in SETS
    ]

    def interval(middle, width=0.02):
        return {"ci_low": middle - width, "ci_high": middle + width}

    def scored(key):
        accuracy = draw(0.5, 0.7)
        told = {"nll": draw(0.55, 0.7), "ece": draw(0.01, 0.1)} if key["method"] != "length" else {}
        return {"accuracy": accuracy, **interval(accuracy), "nll": None, "ece": None, **told}

    def differing(key, reference):
        middle = draw(-0.05, 0.05)
        return {**key, "reference": reference, "category": "all", "difference": middle, **interval(middle)}

    def abstaining(key):
        aurc = draw(0.2, 0.4)
        curve = {"coverage": [k / 10 for k in range(1, 11)], "accuracy": [0.9 - 0.02 * k for k in range(10)]}
        return {**key, "seeds": len(seeds), "n": 2112, "aurc": aurc, **interval(aurc), "excess": 0.1, "differences": [],
                **curve}  # fmt: skip

    def deviating(key):
        auroc = draw(0.4, 0.6)
        bins = {"deviation": [0.1 * k for k in range(10)], "error": [0.3 + 0.01 * k for k in range(10)]}
        return {**key, "seeds": len(seeds), "n": 2112, "auroc": auroc, **interval(auroc), **bins}

    confident = [key for key in keys if key["method"] != "length"]
    return {
        "schema": 1,
        "command": "qbrm study --train prefs.jsonl --out runs/study",
        "environment": {
            "qbrm": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "platform": "Linux", "processor": "AVX2", "cores": 2
        },
        "data": [
            {"name": "prefs", "role": role, "prompts": size, "pairs": 931, "categories": 49, "pairwise": 90, "bon": 23}
            for role, size in (("train", 1781), ("test", 445))
        ],
        "rows": [{**key, "seed": each, "category": "all", "n": 2112, **scored(key)} for key in keys for each in seeds],
        "timings": [],
        "summary": [
            {**key, "category": category, "seeds": len(seeds), "n": 2112, **scored(key)}
            for key in keys
            for category in ("all", "macro")
        ],
        "differences": [
            differing(key, reference)
            for key in keys
            for reference in ("base", "mlp")
            if key["method"] != reference
        ],
        "epochs": [],
        "reliability": [
            {**key, "confidence": confidence, "accuracy": confidence - 0.05, "n": n}
            for key in confident
            for confidence, n in ((0.55, 500), (0.75, 100), (0.95, 3))
        ],
        "risk_coverage": [abstaining(key) for key in confident],
        "deviation": [deviating(key) for key in keys if key["method"] in SCORES],
        "densities": [],
        "notes": [
            *(f"same, sqrbm, seed {seed}: no epoch beat the base rewards on validation; they are kept"
              for seed in seeds),
            "fresh, ebrm, seed 0: 812 of 3,310 pairs dropped by conflict-aware filtering",
            "features: 13,550 responses, 0 embedded now in 0 s (kept in runs/study/features)",
        ],
    }  # fmt: skip


def made_over_optimisation(seed=1):
    """over-optimisation.json, both kinds of gold."""
    draw = np.random.default_rng(seed).uniform
    sizes, kl = (1, 100, 10_000), (0.0, 3.6, 8.2)

    def curve(method):
        rows = [{"method": method, "seed": None, "n": n, "kl": far, "gold": draw(0, 3), "proxy": draw(0, 3)}
                for n, far in zip(sizes, kl, strict=True)]  # fmt: skip
        return [{**row, "ci_low": row["gold"] - 0.1, "ci_high": row["gold"] + 0.1} for row in rows]

    def peak(method):
        low = draw(-0.5, 0.5)
        over = {"over_base": draw(0, 1), "over_base_low": draw(-1, 0), "over_base_high": draw(1, 2)}
        return {
            "method": method, "peak_n": 100, "peak_kl": 3.6, "peak_gold": draw(2, 3), "last_n": 10_000,
            "last_gold": draw(0, 2), "loss": low + 0.5, "ci_low": low, "ci_high": low + 1.0, "peaks": low > 0,
            **(over if method != "base" else dict.fromkeys(over)),
        }  # fmt: skip

    methods = ("gold", "base", "mlp", CANDIDATE)
    studies = [
        {"gold_from": gold, "scenario": "fresh", "notes": [], "peaks": [peak(method) for method in methods],
         "rows": [row for method in methods for row in curve(method)]}
        for gold in ("simulation", "labels")
    ]  # fmt: skip
    return {"schema": 1, "command": "qbrm study over-optimisation --out runs/study", "studies": studies}


def made_coverage(seed=2):
    """coverage.json of two simulated worlds."""
    draw = np.random.default_rng(seed).uniform
    rows = [
        {"seed": world, "fitted_to": fitted_to, "level": level, "coverage": level + draw(-0.03, 0.03), "error": 0.008}
        for world in (0, 1)
        for fitted_to in ("rewards", "preferences")
        for level in LEVELS
    ]
    return {"schema": 1, "command": "qbrm study coverage --out runs/study", "rows": rows}


def made_journal(seconds=1234.0, command="qbrm study --train prefs.jsonl --out runs/study"):
    """study.json of a whole study in which every part took as long as the others."""
    parts = ("robustness", "over-optimisation", "coverage", "fine-tuned")
    calls = [{"part": part, "command": command, "finished": True, "seconds": seconds} for part in parts]
    return {"schema": 1, "calls": calls}


def write_study(folder, **left_out):
    """All files of a study; `fine_tuned=False` and the like leave some out."""
    contents = {
        "robustness": ("results.json", made_results()),
        "fine_tuned": ("fine-tuned/results.json", made_results(seed=3)),
        "over_optimisation": ("over-optimisation.json", made_over_optimisation()),
        "coverage": ("coverage.json", made_coverage()),
        "journal": ("study.json", made_journal()),
    }
    for name, (path, content) in contents.items():
        if left_out.get(name, True):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(json.dumps(content))
    return folder
