"""Train a model. A recipe is a full configuration, and every field of it is a flag.

The folder --output gets the checkpoint for answering, train.json with the resolved configuration, last.ckpt
for --resume, and the logs. Flags without values take true or false as well: --model.pretrained false.

Example:
  spd train rooms-atto --data.root rooms --output runs/rooms --max-steps 300
  spd train rooms-atto --model bilinear --data.root rooms --output runs/bilinear
"""

from __future__ import annotations

from inspect import cleandoc

import tyro

from spd.cli.errors import CommandFailed
from spd.train_config import TrainConfig
from spd.training.recipes import RECIPES

Options = tyro.extras.subcommand_type_from_defaults(
    {name: recipe() for name, recipe in RECIPES.items()},
    descriptions={
        name: f"{cleandoc(recipe.__doc__ or '')} Example: spd train {name} --data.root FOLDER"
        for name, recipe in RECIPES.items()
    },
)
"""One sub-command per recipe, whose values are the defaults."""

SHORT_FLAGS = {"--model": "--model.architecture", "--lr": "--optimizer.learning-rate"}
VALUED_SWITCHES = {"--resume": ("auto",)}


def run(options: TrainConfig) -> None:
    """Train as configured."""
    from spd.training.module import NonFiniteLossError
    from spd.training.run import train

    try:
        train(options)
    except NonFiniteLossError as error:
        raise CommandFailed(error) from error
    except RuntimeError as error:
        # PyTorch has no class of its own for it.
        if "DataLoader worker" not in str(error):
            raise
        raise CommandFailed(
            f"a process that loads data ended ({error}); continue with --resume, if memory is short with fewer "
            "--data.num-workers"
        ) from error
