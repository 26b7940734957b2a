"""A model of your own: its parameters, its score and its loss; then it trains and compares like any other."""

from torch import nn

import recbole_drex as rd
from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter
from recbole_drex.model.abstract_recommender import RatingModel


@rd.register_model
class ProductMF(RatingModel):
    """Mean rating plus the product of a user's and an item's vector."""

    PARAMETERS = (
        Parameter("width", int, 8, "Width of the vectors.", least=1),
        *RatingModel.PARAMETERS,
        general("learning_rate", 0.01),
    )

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.users = nn.Embedding(self.n_users, config["width"])
        self.items = nn.Embedding(self.n_items, config["width"])
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1)

    def score(self, user, item):
        """Scores of users and items, whose shapes broadcast."""
        return self.mean + (self.users(user) * self.items(item)).sum(-1)

    def calculate_loss(self, interaction):
        """The loss of a batch of training ratings."""
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        return self.head.loss(self.score(user, item), user, interaction[self.rating_field])


run = rd.run(ProductMF, "demo", width=4, epochs=30)
print(run.table().round(3)[["mae", "rmse"]])
