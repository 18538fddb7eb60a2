"""The learning study: what keeps a policy from ending in names and headlines. One command, resumable.

    python benchmarks/learning/study.py --documents "news/*.json.gz" --output runs/learning --rounds 40 --seeds 0 1

Every arm of arms.yaml is a `fit` of its own under base.yaml, one after the other, seed by seed, so that what there is
of an unfinished study compares arms. A run that was stopped goes on from its last checkpoint, and one that has ended is
not run again. After each run the report is written anew: table.md, curves.png and summaries.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from report import write_report

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PREPARATION_SEED = 0  # the same beginning for every seed: what differs is the reinforcement


def merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested settings, the second one's first; lists and classes are taken whole."""
    found = copy.deepcopy(dict(low))
    for key, value in high.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping) and "class_path" not in value
        found[key] = merged(found[key], value) if both else copy.deepcopy(value)
    return found


def fit(folder: Path, settings: Mapping[str, Any], seed: int) -> Path:
    """Runs one `fit`, or goes on with it, until it has ended; the folder of its adapters.

    Raises:
        subprocess.CalledProcessError: It failed; its log says why.
    """
    checkpoints, log = folder / "checkpoints", folder / "log.txt"
    if (folder / "done").exists():
        return checkpoints
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        "seed_everything": seed,
        "checkpoint": {"dirpath": str(checkpoints), "every_n_rounds": 2},
        "trainer": {"logger": {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder / "curves")}}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(merged(settings, own), sort_keys=False))
    command = [sys.executable, str(ROOT / "lightning_cli.py"), "fit", "--config", str(folder / "config.yaml")]
    if (checkpoints / "last.ckpt").exists():
        command += ["--ckpt_path", "last"]
    with log.open("a") as out:
        subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, check=True)
    (folder / "done").touch()
    return checkpoints


def main() -> None:
    """Runs what is left of the study."""
    arms = yaml.safe_load((HERE / "arms.yaml").read_text())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", default="samples", help="what to train on, as data.documents")
    parser.add_argument("--validation", default=None, help="what to validate with, as data.validation_documents")
    parser.add_argument("--validation-size", type=int, default=16)
    parser.add_argument("--base", type=Path, default=HERE / "base.yaml", help="what all arms share")
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs and of the report")
    parser.add_argument("--rounds", type=int, default=40, help="of reinforcement, in every arm")
    parser.add_argument("--every", type=int, default=10, help="rounds between validations")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", default=list(arms["arms"]), choices=list(arms["arms"]), metavar="ARM")
    asked = parser.parse_args()
    asked.output = asked.output.resolve()

    base = yaml.safe_load(asked.base.read_text())
    data = {"documents": asked.documents, "validation_size": asked.validation_size}
    if asked.validation:
        data["validation_documents"] = asked.validation
    for seed in asked.seeds:
        for name in asked.arms:
            arm = dict(arms["arms"][name])
            settings = merged(merged(base, {"data": data}), arm)
            settings.pop("start", None)
            passes = settings["model"]["learn"].get("policy_passes", 1)
            settings["trainer"] |= {"max_steps": asked.rounds * passes, "val_check_interval": asked.every}
            if "start" in arm:
                preparation = merged(base, arms["preparations"][arm["start"]])
                preparation["trainer"]["val_check_interval"] = preparation["trainer"]["max_steps"]
                start = fit(asked.output / f"prepared-{arm['start']}", preparation, PREPARATION_SEED)
                settings["model"]["adapter"] = str((start / "last").resolve())
            print(f"{name}, seed {seed} ...", flush=True)
            fit(asked.output / f"{name}-{seed}", settings, seed)
            write_report(asked.output)
    print(json.dumps({"report": str(asked.output / "table.md")}))


if __name__ == "__main__":
    main()
