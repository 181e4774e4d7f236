"""The evaluation of a study: scores, statistics over seeds, the leaderboard, plots, and the stage evaluate."""
