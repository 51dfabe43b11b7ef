"""What the card of a checkpoint says; that the right one is saved is tested with the checkpoint."""

from __future__ import annotations

from functools import partial

import pytest

from spd.config import ModelConfig
from spd.model_card import model_card as card_of

model_card = partial(card_of, checksum="sha256:0")


@pytest.mark.parametrize(
    ("encoder", "licence"),
    [("convnextv2_atto.fcmae_ft_in1k", "cc-by-nc-4.0"), ("convnext_tiny", "apache-2.0")],
)
def test_model_card_names_the_licence_of_the_encoder(encoder: str, licence: str) -> None:
    card = model_card(ModelConfig.tiny(encoder=encoder, pretrained=True), 1, {})
    assert f"license: {licence}\n" in card
    assert f"`{encoder}`, whose licence is {licence}." in card


def test_says_how_each_architecture_is_used() -> None:
    spd_card = model_card(ModelConfig.tiny(interaction="joint"), 40_183_785, {"steps": 3})
    for fact in ("| architecture | spd |", "spd.load(", "40,183,785", "192, 7 |", "see each other", "- steps: 3"):
        assert fact in spd_card
    bilinear_card = model_card(ModelConfig.tiny(architecture="bilinear"), 1, {})
    for fact in (
        "| architecture | bilinear |",
        "bilinear_mlp.load(",
        "in22k_in1k, first stage",
        "| channels of L1 | 64 |",
    ):
        assert fact in bilinear_card
    for wrong in ("spd.load(", "see each other", "decoder layers"):
        assert wrong not in bilinear_card
    assert "{" not in spd_card + bilinear_card


def test_says_which_depths_it_was_trained_on() -> None:
    assert "| true depth in training | 0.001 to 10 m |" in model_card(ModelConfig.tiny(), 1, {})
    assert "| true depth in training | 0.2 to 80 m |" in model_card(ModelConfig.tiny(depth_range=(0.2, 80.0)), 1, {})


def test_says_what_a_point_sees_in_either_mode() -> None:
    card = model_card(ModelConfig.tiny(interaction="anchored", anchor_stride=16), 1, {})
    assert "gaps between the anchors, about 16 pixels" in card
    assert "see each other" not in card
    assert "{" not in card


@pytest.mark.parametrize(
    ("terms", "licence", "told"),
    [
        ("apache-2.0", "apache-2.0", "trained on: apache-2.0."),
        ("research use only, as NYU Depth V2", "other", "trained on: research use only, as NYU Depth V2."),
        (None, "other", "trained on: not recorded."),
    ],
)
def test_weights_carry_the_terms_of_their_data(terms: str | None, licence: str, told: str) -> None:
    card = model_card(ModelConfig.atto(), 1, {"data_terms": terms})
    assert f"license: {licence}\n" in card
    assert told in card
    assert "The code is Apache-2.0." in card


def test_names_the_checksum_and_holds_notes_after_training() -> None:
    card = card_of(ModelConfig.atto(), 1, {"steps": 3}, checksum="sha256:12ab", notes="## Accuracy\n\nAbsRel {.3}\n")
    assert "| checksum of the weights | sha256:12ab |\n" in card
    assert "- steps: 3\n\n## Accuracy\n\nAbsRel {.3}\n\n## Use\n" in card
    assert "- steps: 3\n\n## Use\n" in model_card(ModelConfig.atto(), 1, {"steps": 3})


def test_lists_where_weights_started_within_where_they_ended() -> None:
    card = model_card(ModelConfig.atto(), 1, {"steps": 3, "started_from": {"steps": 2, "started_from": {"seed": [0]}}})
    assert "- steps: 3\n- started_from:\n  - steps: 2\n  - started_from:\n    - seed: [0]\n\n" in card
