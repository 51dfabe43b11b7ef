"""Batches: the same whatever the workers, the processes and the restarts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from spd.config import ModelConfig
from spd.data import sharing
from spd.data.batches import EpochBatchSampler, SampleKey, TrainingBatch
from spd.data.datamodule import RGBDDataModule
from spd.data.mixture import Mixture, Share
from spd.train_config import DataConfig, TrainConfig

HEIGHT, WIDTH = 40, 56
NUM_TRAIN, NUM_VAL = 11, 5
TARGET = (32, 64)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 frames for training, 5 for validation, the last of which has no measurement."""
    folder = tmp_path_factory.mktemp("frames")
    rng = np.random.default_rng(0)
    lines = ["image,depth,split,fx,fy,cx,cy,depth_step"]
    for index in range(NUM_TRAIN + NUM_VAL):
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        depth = rng.integers(500, 9000, (HEIGHT, WIDTH), dtype=np.uint16) * (index < NUM_TRAIN + NUM_VAL - 1)
        Image.fromarray(depth.astype(np.uint16)).save(folder / f"{index}_depth.png")
        split = "train" if index < NUM_TRAIN else "val"
        lines.append(f"{index}.png,{index}_depth.png,{split},50,48,27.5,19.5,0.01")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def config_of(root: Path | None, **data: Any) -> TrainConfig:
    roots = () if root is None else (root,)
    settings = {"batch_size": 4, "num_workers": 0, "num_queries": 9, "edge_fraction": 0.3, **data}
    return TrainConfig(model=ModelConfig.atto(train_size=TARGET), data=DataConfig(root=roots, **settings), seed=3)


def trainer_of(**settings: Any) -> pl.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {"enable_checkpointing": False, "logger": False, "num_sanity_val_steps": 0, **settings}
    return pl.Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **quiet,
    )


def module_of(config: TrainConfig) -> RGBDDataModule:
    module = RGBDDataModule(config)
    module.trainer = trainer_of()
    module.setup("fit")
    return module


def sampler_of(
    num_samples: int, config: DataConfig, step: int = 0, rank: int = 0, world_size: int = 1
) -> EpochBatchSampler:
    mixture = Mixture((Share(("",) * num_samples, weight=1.0),), seed=3)
    return EpochBatchSampler(mixture, config, current_step=lambda: step, rank=rank, world_size=world_size)


def assert_same(one: TrainingBatch, other: TrainingBatch) -> None:
    for name, left, right in zip(TrainingBatch._fields, one, other, strict=True):
        assert torch.equal(left, right), name


def test_a_batch_has_the_promised_shapes_and_truth(root: Path) -> None:
    module = module_of(config_of(root))
    batch = next(iter(module.train_dataloader()))
    assert isinstance(batch, TrainingBatch)
    assert batch.images.shape == (4, 3, *TARGET)
    assert batch.depth_m.shape == (4, *TARGET)
    assert batch.query_points.shape == (4, 9, 2)
    assert batch.query_mask.all()
    assert batch.indices.dtype == torch.int64
    assert 0 <= batch.images.min() < batch.images.max() <= 1
    u, v = batch.query_points.long().unbind(-1)
    assert torch.equal(batch.query_depth_m, batch.depth_m[torch.arange(4)[:, None], v, u])


def test_workers_change_nothing(root: Path) -> None:
    alone = list(module_of(config_of(root)).train_dataloader())
    shared = list(module_of(config_of(root, num_workers=2)).train_dataloader())
    assert len(alone) == len(shared) == 2
    for one, other in zip(alone, shared, strict=True):
        assert_same(one, other)


def test_small_shared_memory_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list(module_of(config_of(root)).train_dataloader())
    monkeypatch.setattr(sharing, "free_bytes", lambda folder: 1000)
    loader = module_of(config_of(root, num_workers=2)).train_dataloader()
    assert isinstance(loader.collate_fn, sharing.ThroughPipe)
    for one, other in zip(alone, loader, strict=True):
        assert_same(one, other)
        assert not other.images.is_shared()


def test_shared_memory_that_cannot_be_written_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(sharing, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(sharing.tempfile, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"got Read-only file system; --data\.num-workers 0"):
        module_of(config_of(root, num_workers=2)).train_dataloader()
    module_of(config_of(root, num_workers=0)).train_dataloader()


def test_a_sample_is_a_function_of_seed_epoch_and_frame(root: Path) -> None:
    samples = module_of(config_of(root)).train_dataloader().dataset
    sample = samples[SampleKey(epoch=2, frame=4, num_queries=9)]
    again = samples[SampleKey(epoch=2, frame=4, num_queries=9)]
    other_seed = module_of(replace(config_of(root), seed=4)).train_dataloader().dataset
    assert torch.equal(sample.image, again.image)
    assert torch.equal(sample.depth_m, again.depth_m)
    assert torch.equal(sample.queries.query_points, again.queries.query_points)
    for other in (samples[SampleKey(3, 4, 9)], samples[SampleKey(2, 5, 9)], other_seed[SampleKey(2, 4, 9)]):
        assert not torch.equal(sample.image, other.image)
        assert not torch.equal(sample.queries.query_points, other.queries.query_points)


def test_loading_draws_nothing_from_the_global_generator(root: Path) -> None:
    """Else a restart would shift what dropout draws."""
    module = module_of(config_of(root))
    before = torch.get_rng_state()
    list(module.train_dataloader())
    list(module.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_ranks_share_the_batches_of_one_process() -> None:
    config = DataConfig(batch_size=6, query_schedule="log_uniform")
    whole = list(sampler_of(20, config, step=3))
    parts = [list(sampler_of(20, config, step=3, rank=rank, world_size=3)) for rank in range(3)]
    assert len(whole) == 3
    for batch, *shares in zip(whole, *parts, strict=True):
        assert [len(share) for share in shares] == [2, 2, 2]
        assert [key for keys in zip(*shares, strict=True) for key in keys] == batch


def test_an_epoch_shows_each_frame_at_most_once_and_the_next_in_another_order() -> None:
    config = DataConfig(batch_size=4)
    first, second = ([key.frame for batch in sampler_of(11, config, step) for key in batch] for step in (0, 2))
    assert len(set(first)) == len(first) == 8
    assert len(set(second)) == 8
    assert first != second
    left_out = {frame for step in range(0, 40, 2) for batch in sampler_of(11, config, step) for _, frame, *_ in batch}
    assert left_out == set(range(11))


def test_a_set_smaller_than_a_batch_is_repeated() -> None:
    (batch,) = sampler_of(3, DataConfig(batch_size=7))
    frames = [key.frame for key in batch]
    assert len(frames) == 7
    assert sorted(frames[:3]) == [0, 1, 2]
    assert frames[3:] == [*frames[:3], frames[0]]


@pytest.mark.parametrize("step", range(13))
def test_an_iteration_from_any_step_is_the_tail_of_the_epoch(step: int) -> None:
    config = DataConfig(batch_size=2, query_schedule="log_uniform")
    unbroken = [batch for start in range(0, 15, 5) for batch in sampler_of(11, config, start)]
    resumed = sampler_of(11, config, step)
    assert len(resumed) == 5
    assert list(resumed) == unbroken[step : step - step % 5 + 5]


def test_one_number_of_queries_per_batch_seeded_by_the_step() -> None:
    config = DataConfig(batch_size=2, query_schedule="log_uniform")
    counts = [
        {key.num_queries for key in batch} for start in range(0, 40, 5) for batch in sampler_of(11, config, start)
    ]
    assert all(len(count) == 1 for count in counts)
    assert len(set.union(*counts)) > 20


def test_validation_is_whole_in_order_and_always_the_same(root: Path) -> None:
    loader = module_of(config_of(root)).val_dataloader()
    first, second = list(loader), list(loader)
    other_seed = list(module_of(replace(config_of(root), seed=8)).val_dataloader())
    assert [batch.indices.tolist() for batch in first] == [[0, 1, 2, 3], [4]]
    for one, again, other in zip(first, second, other_seed, strict=True):
        assert_same(one, again)
        assert_same(one, other)
    assert first[0].query_mask.all()
    assert len(first[0].query_points.unique(dim=0)) == 4
    assert not first[1].query_mask.any()
    assert (first[1].query_depth_m == 1).all()
    pixels = Image.open(root / f"{NUM_TRAIN}.png").resize(TARGET[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(first[0].images[0].permute(1, 2, 0) * 255, np.asarray(pixels), atol=1.01)


def test_what_the_user_did_wrong(root: Path) -> None:
    with pytest.raises(ValueError, match=r"--data\.root must name one folder .* per data set, got none"):
        module_of(config_of(None))
    with pytest.raises(ValueError, match=r"has no frame in split dev; it has train, val"):
        module_of(config_of(root, val_split="dev"))
    without = module_of(replace(config_of(root, val_split="dev"), validate_every=0))
    assert without.val_dataloader() == []


def test_frames_have_names(root: Path) -> None:
    assert module_of(config_of(root)).frame_names([7, 0]) == [str(root / "7.png"), str(root / "0.png")]


class Recorder(pl.LightningModule):
    """Notes what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int], float]] = []

    def training_step(self, batch: TrainingBatch) -> torch.Tensor:
        self.seen.append((self.global_step, batch.indices.tolist(), batch.query_depth_m.sum().item()))
        return self.weight * 1.0

    def validation_step(self, batch: TrainingBatch) -> None:
        assert len(batch.indices)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in folder.glob("*.ckpt"):
        yield int(path.stem.partition("=")[2]), path


@pytest.mark.parametrize("length", [{"max_epochs": 3}, {"max_steps": 8, "max_epochs": -1}], ids=["epochs", "steps"])
@pytest.mark.parametrize("when", [{"every_n_train_steps": 1}, {"save_on_train_epoch_end": True}], ids=["step", "epoch"])
def test_a_continued_run_sees_what_the_unbroken_one_saw(
    root: Path, tmp_path: Path, length: dict[str, int], when: dict[str, Any]
) -> None:
    config = config_of(root, batch_size=3)
    keep = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **when)
    unbroken = Recorder()
    trainer_of(callbacks=[keep], enable_checkpointing=True, **length).fit(unbroken, datamodule=RGBDDataModule(config))
    assert [step for step, *_ in unbroken.seen] == list(range(length.get("max_steps", 9)))
    assert len({str(frames) for _, frames, _ in unbroken.seen}) == len(unbroken.seen)
    saved = dict(checkpoints(tmp_path))
    assert len(saved) >= 3
    for step, path in saved.items():
        continued = Recorder()
        trainer_of(**length).fit(continued, datamodule=RGBDDataModule(config), ckpt_path=path)
        assert continued.seen == unbroken.seen[step:], step


@pytest.mark.skipif("SPD_NYU" not in os.environ, reason="SPD_NYU, the folder of the NYU Depth V2 manifest, is not set")
def test_nyu_loads() -> None:
    config = TrainConfig(data=DataConfig(root=(Path(os.environ["SPD_NYU"]),), batch_size=2, num_workers=0))
    for batch in islice(module_of(config).train_dataloader(), 2):
        assert batch.images.shape == (2, 3, 256, 320)
        assert batch.query_mask.all()
        assert 0.3 < batch.query_depth_m.min() < batch.query_depth_m.max() < 13


def test_a_part_of_the_images_lies_in_a_larger_part_and_validation_stays_whole(root: Path) -> None:
    def frames_of(fraction: float) -> tuple[list[str], int]:
        data = RGBDDataModule(config_of(root, train_fraction=fraction))
        data.setup("fit")
        assert data.train_frames is not None
        assert data.val_frames is not None
        return [frame.image.name for frame in data.train_frames.frames], len(data.val_frames)

    whole = [f"{index}.png" for index in range(NUM_TRAIN)]
    parts = {number: frames_of(number / NUM_TRAIN) for number in range(1, NUM_TRAIN + 1)}
    assert parts[NUM_TRAIN] == (whole, NUM_VAL)
    for number, (names, num_val) in parts.items():
        assert (len(names), num_val) == (number, NUM_VAL)
        assert names == [name for name in whole if name in names]
        assert set(names) <= set(parts.get(number + 1, parts[number])[0])
    assert parts[4][0] != whole[:4]
    assert len(frames_of(1e-6)[0]) == 1


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01])
def test_a_part_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"train_fraction must be in \(0, 1\], got {fraction}"):
        DataConfig(train_fraction=fraction)


def another(folder: Path, columns: str, cells: str, splits: tuple[str, ...]) -> Path:
    """A small data set whose frames end with the given cells."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    lines = [f"image,depth,split,{columns}"]
    for index, split in enumerate(splits):
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        Image.fromarray(rng.integers(500, 9000, (HEIGHT, WIDTH), dtype=np.uint16)).save(folder / f"{index}_depth.png")
        lines.append(f"{index}.png,{index}_depth.png,{split},{cells}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


class TestSeveralSets:
    @pytest.fixture
    def roots(self, root: Path, tmp_path: Path) -> tuple[Path, Path]:
        return root, another(tmp_path / "tables", "fx,fy,cx,cy,scene", "25,24,27.5,19.5,desk", ("train",) * 5)

    def config(self, roots: tuple[Path, ...], **data: Any) -> TrainConfig:
        config = config_of(roots[0])
        return replace(config, data=replace(config.data, root=roots, **data))

    def test_batches_mix_them_by_weight(self, roots: tuple[Path, Path]) -> None:
        module = module_of(self.config(roots, weights=(1.0, 3.0)))
        batches = list(module.train_dataloader())
        of_sets = torch.cat([batch.data_sets for batch in batches])
        # Of 16 samples 12 are of the second set; four whole batches of four show all of them.
        assert torch.bincount(of_sets).tolist() == [4, 12]
        for batch in batches:
            assert torch.equal(batch.data_sets, (batch.indices >= NUM_TRAIN).long())

    def test_a_repeated_frame_is_another_sample(self, roots: tuple[Path, Path]) -> None:
        module = module_of(self.config(roots, weights=(1.0, 3.0)))
        batches = list(module.train_dataloader())
        frames = torch.cat([batch.indices for batch in batches])
        repeated = int(frames[frames >= NUM_TRAIN][0])
        same = torch.cat([batch.images for batch in batches])[frames == repeated]
        assert len(same) >= 2
        assert not torch.equal(same[0], same[1])

    def test_each_keeps_its_own_camera(self, roots: tuple[Path, Path]) -> None:
        """Zoomed by one, depth over focal length is what the file holds: √(fx·fy) by hand, 49.0 and 24.5."""
        module = module_of(self.config(roots, zoom=(1.0, 1.0)))
        canonical = module.config.model.canonical_focal_length
        resized = ((TARGET[1] / WIDTH) * (TARGET[0] / HEIGHT)) ** 0.5
        for batch in module.train_dataloader():
            for number, focal in enumerate(((50 * 48) ** 0.5, (25 * 24) ** 0.5)):
                scale = batch.depth_scale[batch.data_sets == number]
                assert scale.tolist() == pytest.approx([focal * resized / canonical] * len(scale), rel=1e-4)

    @pytest.mark.parametrize("cache", ["memory", "disk"])
    def test_caching_changes_nothing(self, roots: tuple[Path, Path], cache: str, tmp_path: Path) -> None:
        plain = module_of(self.config(roots))
        kept = module_of(replace(self.config(roots, cache=cache), output=tmp_path / "run"))
        for loader in ("train_dataloader", "val_dataloader"):
            for one, other in zip(getattr(plain, loader)(), getattr(kept, loader)(), strict=True):
                assert_same(one, other)

    def test_only_those_with_the_split_are_validated(self, roots: tuple[Path, Path]) -> None:
        module = module_of(self.config(roots))
        assert module.val_frames is not None
        assert module.val_frames.names == (roots[0].name,)
        assert module.val_prefix(0) == f"{roots[0].name}/"
        with pytest.raises(ValueError, match=r"no data set has a frame in split dev to validate on; --data\.val-split"):
            module_of(self.config(roots, val_split="dev"))

    def test_frames_without_a_camera_are_left_out_and_told(
        self, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        bare = another(tmp_path / "bare", "camera", "", ("train", "train", "val"))
        lines = (bare / "manifest.csv").read_text().splitlines()
        (bare / "manifest.csv").write_text(
            "\n".join([lines[0], f"{lines[1]}canonical", lines[2], f"{lines[3]}canonical"])
        )
        module = module_of(self.config((root, bare)))
        assert module.train_frames is not None
        assert len(module.train_frames) == NUM_TRAIN + 1
        assert "1 of 2 frames of split train" in caplog.text

    def test_a_set_without_any_camera_is_refused(self, root: Path, tmp_path: Path) -> None:
        bare = another(tmp_path / "bare", "scene", "desk", ("train", "val"))
        with pytest.raises(ValueError, match=r"no frame of split train of .*bare says its camera.*canonical"):
            module_of(self.config((root, bare)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": (1.0,)}, r"weights must have one value per data set \(2\), got 1"),
        ({"weights": (1.0, 0.0)}, r"weights must be positive and finite, got \(1\.0, 0\.0\)"),
        ({"scene_balance": (0.0, 2.0)}, r"scene_balance must be in \[0, 1\], got \(0\.0, 2\.0\)"),
        ({"terms": ("a", "b", "c")}, r"terms must have one value per data set \(2\), got 3"),
        ({"root": (Path("a"), Path("./a"))}, r"root must name different folders, got a a"),
    ],
)
def test_what_does_not_fit_the_sets_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig(**{"root": (Path("a"), Path("b")), **settings})


def test_sets_of_one_name_are_told_apart() -> None:
    assert DataConfig(root=(Path("/x/a"), Path("/y/a"), Path("/x/b"))).set_names == ("a-1", "a-2", "b")


def test_the_mean_over_scenes_is_a_mean_by_weight(root: Path, tmp_path: Path) -> None:
    folder = another(tmp_path / "scenes", "fx,fy,cx,cy,scene", "25,24,27.5,19.5,one", ("train", "val", "val", "val"))
    text = (folder / "manifest.csv").read_text().splitlines()
    (folder / "manifest.csv").write_text("\n".join([*text[:-1], text[-1].replace("one", "two")]))
    module = module_of(config_of(folder))
    weights = [module.val_scene_weight(index) for index in range(3)]
    errors = [0.1, 0.3, 0.8]
    by_hand = ((0.1 + 0.3) / 2 + 0.8) / 2
    assert sum(w * e for w, e in zip(weights, errors, strict=True)) / 3 == pytest.approx(by_hand)
