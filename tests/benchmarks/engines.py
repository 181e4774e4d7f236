"""`make engines`: docs/engines.md, the lessons' variants by the compiled engine beside the torch engine.

Every variant that both can train, from three seeds, at the lessons' epochs: half an hour of a processor, nearly all
of it torch's.
"""

import sys
from pathlib import Path

import bancada  # noqa: F401  (its pins must be set before numpy and torch load)

# isort: split
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from lessons import BOTH, PARAMS, SEEDS, VARIANTS, Outcome, apart, outcomes

HEADER = f"""# Two engines, the same results

The torch engine is plain PyTorch, and the compiled engine is held against it: the same start, the same batches, but
other masks of dropout. `make engines` wrote this page. `make test-long` trains all of it again: both engines must agree
(`tests/lessons/test_engines_agree.py`), and both must reach what the lessons published
(`tests/lessons/test_lessons.py`).

Scores are those of the leaderboards, from seeds {", ".join(map(str, SEEDS))}. "Apart" is the relative difference of
all parameters at the end, the largest of the seeds. Where it is near 1, the training amplifies every rounding, as
lesson 3's does at its learning rate: float32 and float64 end in different networks as well, and only scores can agree.
Seconds are a processor's, for the three seeds together.

| variant | metric | compiled | torch | apart | compiled, s | torch, s |
| --- | --- | --- | --- | --- | --- | --- |
"""


def line(variant: str, found: dict[tuple[str, str, int], Outcome]) -> str:
    of = {engine: [found[variant, engine, seed] for seed in SEEDS] for engine in BOTH}
    scores = [" ".join(f"{one.score:.3g}" for one in of[engine]) for engine in BOTH]
    seconds = [f"{sum(one.seconds for one in of[engine]):.3g}" for engine in BOTH]
    furthest = max(apart(*pair) for pair in zip(*of.values(), strict=True))
    metric = PARAMS.studies[PARAMS.variants[variant].study].metric
    return f"| {' | '.join([f'`{variant}`', metric, *scores, f'{furthest:.1g}', *seconds])} |\n"


def main() -> None:
    shown = tqdm(outcomes(), total=len(BOTH) * len(VARIANTS) * len(SEEDS), unit="seed")
    found = {(one.variant, one.engine, one.seed): one for one in shown}
    page = HEADER + "".join(line(variant, found) for variant in VARIANTS)
    (Path(__file__).parents[2] / "docs" / "engines.md").write_text(page)


if __name__ == "__main__":
    main()
