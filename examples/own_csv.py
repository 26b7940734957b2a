"""Train on reviews in a CSV file, whose columns have names of their own."""

import gzip

import pandas as pd

import recbole_drex as rd
from recbole_drex.data.raw.demo import generate_demo

# A file to work with. Yours may have any columns; a rating or a text may be missing.
files = generate_demo("raw", users=60, items=60, reviews=1500)
with gzip.open(files["reviews"], "rt") as lines:
    reviews = pd.read_json(lines, lines=True)
shop = reviews.rename(columns={"user_id": "customer", "parent_asin": "product", "rating": "stars", "text": "comment"})
shop[["customer", "product", "stars", "comment"]].to_csv("shop.csv", index=False)

# Users and items with few ratings are left out: 20 and 5 by default.
run = rd.run(
    "DReX",
    "shop",
    raw="shop.csv",
    columns={"user_id": "customer", "item_id": "product", "rating": "stars", "text": "comment"},
    user_min=10,
    epochs=5,
    explained_users=2,
)
print(run.table().round(3)[["mae", "rmse"]])
print(run.recommend(shop["customer"][0], k=3))

# The same from a data frame: raw=shop. From the command line:
#   recbole-drex run --dataset shop --raw shop.csv --user_min 10 --epochs 5 \
#       --columns "{user_id: customer, item_id: product, rating: stars, text: comment}"
