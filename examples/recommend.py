"""Use a trained model: recommendations for all users, predictions for pairs, and a server."""

import subprocess
import sys

import pandas as pd

import recbole_drex as rd

run = rd.run("DReX", "demo", resume=True)  # a finished run is read

# One user, or pairs of users and items in a data frame.
print(run.recommend("user_025", k=3))
pairs = pd.DataFrame({"user_id": ["user_025", "user_060"], "item_id": ["game_07", "game_07"]})
print(pairs.assign(predicted=run.predict(pairs)))

# All users, into a file; --explain adds the reasons.
command = [sys.executable, "-m", "recbole_drex", "recommend", "--run", str(run.folder), "--top", "3"]
subprocess.run([*command, "--out", "recommendations.csv"], check=True)
print(pd.read_csv("recommendations.csv").head())

# Requests over HTTP, and a page to try (pip install -e '.[serve]'):
#   recbole-drex serve --run results/demo/DReX/seed-2026
