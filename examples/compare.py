"""Compare models over several splits, and test whether their differences could be chance."""

import recbole_drex as rd
from recbole_drex.analysis.comparison_table import comparison_table
from recbole_drex.report.html import write_report

# Each seed has its own split. Changed parameters follow a model's name: DReX without reviews is a control.
# Five epochs keep this example short; leave them out to train until the validation error stops falling.
comparison = rd.compare(
    ["DReX", "DReX+modalities=[rating]", "BiasedMF"],
    ["demo"],
    seeds=[2026, 2027],
    parameters={"epochs": 5, "explained_users": 2, "measured_users": 0},
    output="results-short",
)

# Every model is tested against the first one, over users and splits; marks are explained below the table.
print(comparison_table(comparison).to_text(width=100))
print(write_report(comparison.folder))
