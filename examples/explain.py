"""Train DReX on the generated data set, and explain its recommendations: as text, as values, and as a page."""

import recbole_drex as rd
from recbole_drex.report.html import write_report

# Prepares the data, trains DReX and the reference models, and writes results/demo/; resume reads what is finished.
run = rd.run("DReX", "demo", resume=True)
print(run)
print(run.table()[["mae", "rmse"]].round(3))

user = "user_025"
print(run.explain(user, k=1))

# An explanation holds plain values: the prediction is the sum of its parts.
best = run.explain(user, k=1).recommendations[0]
for part in best.parts:
    print(f"{part.rating:+.2f}  {part.name}")
print(f"{best.predicted:+.2f}  {best.title}")

print("All explained users:", write_report(run.folder))
