"""Whose a node is: by default, by the config's word, on a discriminator's trunk, and in a stage that learns less."""

import pytest
import test_ae_gan
import torch
from by_hand import Hand, Row, minus_log_sigmoid, squared_gradient
from screen import Screen, batch_of, build, check, check_gaps, compare, engine, read, read_table, subsets, turn
from test_larsen import SCREEN as LARSEN
from torch import Tensor
from torch.nn.functional import log_softmax

GAPS = [*subsets("xy"), "x", "y"]


def with_players(**players: list[str]) -> dict[str, object]:
    return {**test_ae_gan.SCREEN.config, "players": players}


def test_default_players() -> None:
    graph = build(LARSEN.config)
    assert graph.owners("discriminator") == {"disc_x", "disc_y", "disc_all", "score"}
    assert graph.owners("generator") == {"enc_x", "enc_y", "post", "dec_x", "dec_y"}
    assert graph.wiring.boundary("score") == ("x", "y")


HEAD_ALONE = """
                             | enc_x enc_y | post | dec_x dec_y | all score
generator     reconstruction | 1           | 1    | 1           | 0
generator     prior          | .5          | .5   | 0           | 0
generator     features       | .7          | .7   | .7          | 0
generator     adversarial    | .2          | 0    | .2          | 0
discriminator adversarial    | 0           | 0    | 0           | .2
"""


def test_encoders_that_the_config_takes_from_the_discriminator() -> None:
    """They learn to deceive the head that is left, and the similarity moves with them."""

    def features(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            made = test_ae_gan.decode(h, test_ae_gan.latent(h, i, row, "reconstruction"), row)
            pairs = [(h.hold().net(f"enc_{m}", x), h.net(f"enc_{m}", made[m])) for m, x in row.items()]
            return sum((((real - fake) ** 2).sum() / 2 for real, fake in pairs), torch.zeros(()))

        return h.mean(cost)

    config = with_players(discriminator=["all", "score"])
    assert build(config).wiring.shared == set()
    formulas = {**test_ae_gan.SCREEN.formulas, ("generator", "features"): features}
    check(Screen(config, read_table(HEAD_ALONE), formulas), GAPS)


ENCODERS_JUDGE = """
                             | enc_x enc_y | post | dec_x dec_y | all score
generator     reconstruction | 0           | 1    | 1           | 0
generator     prior          | 0           | .5   | 0           | 0
generator     features       | 0           | .7   | .7          | 0
generator     adversarial    | 0           | 0    | .2          | 0
discriminator adversarial    | .2          | 0    | 0           | .2
"""


def test_encoders_that_the_config_takes_from_the_generator() -> None:
    config = with_players(generator=["post", "dec_*"])
    check(Screen(config, read_table(ENCODERS_JUDGE), test_ae_gan.SCREEN.formulas), GAPS)


def test_a_glob_that_owns_too_much_changes_nothing_that_no_loss_reaches() -> None:
    """enc_x feeds no score: the discriminator may own it, and it receives nothing there."""
    config = {**LARSEN.config, "players": {"discriminator": ["disc*", "score", "enc_x"]}}
    assert build(config).wiring.shared == {"enc_x"}
    check(Screen(config, LARSEN.table, LARSEN.formulas), GAPS)


CLASSIFIED = """
modalities:
  x:     {use: modality/toys.vector, with: {size: 3}}
  label: {use: modality/category, with: {classes: [0, 1, 2]}}
nodes:
  noise:    {use: prior/normal, with: {latent: 2}}
  dec_x:    {use: decoder/toys.mlp, in: noise, out: x}
  disc_x:   {use: encoder/toys.mlp, in: x}
  score:    {use: head/score, in: disc_x}
  classify: {use: head/classification, in: disc_x, out: label}
losses:
  game:   {use: loss/non_saturating, with: {score: score, r1: 0.5}}
  labels: {use: loss/cross_entropy, with: {head: classify, weight: 0.3}}
"""

CLASSIFIED_TABLE = """
                     | dec_x | disc_x | score | classify
generator     game   | 1     | 0      | 0     | 0
discriminator game   | 0     | 1      | 1     | 0
discriminator labels | 0     | .3     | 0     | .3
"""


def classified() -> Screen:
    def score(h: Hand, row: Row) -> Tensor:
        return h.score("score", h.net("disc_x", row["x"]))

    def fake(h: Hand, i: int) -> Row:
        return {"x": h.net("dec_x", h.normal(i, 2, "prior", "noise"))}

    def judge(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            penalty = 0.5 / 2 * squared_gradient(lambda seen: score(h, seen), {"x": row["x"]})
            return minus_log_sigmoid(score(h, row)) + minus_log_sigmoid(-score(h, fake(h, i))) + penalty

        return h.mean(cost, "x")

    def labels(h: Hand) -> Tensor:
        rows = [row for _, row in h.rows() if row.keys() == {"x", "label"}]
        costs = [-log_softmax(h.head("classify", h.net("disc_x", r["x"])), 0)[int(r["label"])] for r in rows]
        return sum(costs, torch.zeros(())) / max(1, len(rows))

    costs = {
        ("generator", "game"): lambda h: h.mean(lambda i, row: minus_log_sigmoid(score(h, fake(h, i))), "x"),
        ("discriminator", "game"): judge,
        ("discriminator", "labels"): labels,
    }
    return Screen(read(CLASSIFIED), read_table(CLASSIFIED_TABLE), costs)


@pytest.mark.parametrize("rows", [["xl"] * 4, [*subsets("xl"), "xl"]], ids=["whole", "gaps"])
def test_a_classifier_on_the_discriminators_trunk_is_the_discriminators(rows) -> None:
    """As in AC-GAN: the trunk learns from labels in the discriminator's turn, the generator does not."""
    check(classified(), rows)


def test_gaps_hold_anything() -> None:
    check_gaps(classified(), [*subsets("xl"), "xl"])


@pytest.mark.parametrize("learn", [{"dec_x"}, {"enc_x", "post"}, {"disc_x"}, {"score", "dec_x", "dec_y"}])
def test_nodes_that_do_not_learn_receive_nothing_and_the_others_the_same(learn) -> None:
    graph = build(LARSEN.config)
    batch = batch_of(graph, GAPS)
    for player, losses in (("discriminator", ["adversarial"]), ("generator", ["prior", "features", "adversarial"])):
        if learn & graph.owners(player):
            every = turn(graph, player, losses, [batch])
            wanted = {name: g if name.split(".")[0] in learn else None for name, g in every.items()}
            compare(turn(graph, player, losses, [batch], learn=sorted(learn)), wanted, (player, learn))


def test_a_stage_moves_what_it_learns_and_nothing_else() -> None:
    config = {**LARSEN.config, "train": {"batch_size": 4, "optimizer": {"discriminator": {"lr": 0.01}}}}
    learned = ["disc_x", "score", "dec_*"]
    config["stages"] = [{"name": "adversarial", "steps": 2, "losses": ["features", "adversarial"], "learn": learned}]
    model = engine().build(config)
    before = {name: p.detach().clone() for name, p in model.graph.named_parameters()}
    data = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)).tolist()
    model.fit({"x": [row[:3] for row in data], "y": [row[3:] if i % 2 else None for i, row in enumerate(data)]})
    moved = {n for n, p in model.graph.named_parameters() if not torch.equal(p, before[n])}
    assert {name.split(".")[1] for name in moved} == {"disc_x_", "score_", "dec_x_", "dec_y_"}
