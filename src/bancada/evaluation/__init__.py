"""Evaluation: tables of scores, comparison, leaderboard, plots, and the stage evaluate."""
