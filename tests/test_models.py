"""A model folder gives back what was saved, or says why not; it never runs code."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nnst import models, storage
from nnst.errors import InputError
from nnst.records import ModelSpec

SPEC = ModelSpec(
    "lenet",
    ("", "logo", "näme \U0001f600"),
    (22, 33),
    4,
    mean=(120.0, 121.5, 122.0),
    std=(60.0, 61.0, 62.5),
    threshold=0.7,
    calibration=(0.8, -1.5),
    widths=(3, 4, 5),
    context=1.25,
)
SCOUT = ModelSpec("scout", ("", "any"), (16, 24), 4, threshold=0.2, widths=(2, 3, 4, 5))
JUDGE = ModelSpec("judge", SPEC.labels, (32, 40), 8, context=1.4, widths=(2, 3, 4, 5, 6, 7))
CASCADE = ModelSpec(
    "cascade", SPEC.labels, (16, 24), 4, calibration=(0.9, 0.5), stages=(SCOUT, JUDGE)
)
SPECS = {
    "mlp": replace(SPEC, architecture="mlp", widths=(3,)),
    "lenet": SPEC,
    "scout": replace(SCOUT, std=(60.0, 61.0, 62.5)),
    "judge": JUDGE,
}


def build_cascade(seed: int = 0) -> models.Cascade:
    """Fresh weights for both stages."""
    scout, judge = (models.build(stage, seed) for stage in CASCADE.stages)
    return models.Cascade(CASCADE, scout, judge)


@pytest.fixture
def cascade_folder(tmp_path: Path) -> Path:
    """A saved cascade."""
    models.save(tmp_path / "cascade", CASCADE, build_cascade().state_dict())
    return tmp_path / "cascade"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small saved model."""
    models.save(tmp_path / "model", SPEC, models.build(SPEC).state_dict(), {"commit": "abc"})
    return tmp_path / "model"


def rewrite(folder: Path, **changes: object) -> None:
    """Puts other values into model.json; a dotted name reaches into the spec."""
    document = json.loads((folder / "model.json").read_text())
    for name, value in changes.items():
        part = document["spec"] if name in document["spec"] else document
        part[name] = value
    (folder / "model.json").write_text(json.dumps(document))


def replace_weights(folder: Path, data: bytes) -> None:
    """Puts other weights into the folder, and their right sha256 into model.json."""
    (folder / "weights.safetensors").write_bytes(data)
    rewrite(folder, weights_sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_a_saved_model_comes_back_with_the_same_scores(tmp_path: Path, architecture: str) -> None:
    spec = SPECS[architecture]
    network = models.build(spec, seed=3)
    provenance = {"commit": "abc", "split": {"train": 12, "validation": 3}}
    digest = models.save(tmp_path, spec, network.state_dict(), provenance)
    loaded = models.load(tmp_path)
    pixels = torch.randint(0, 256, (2, 3, *spec.window_hw), dtype=torch.uint8)
    assert (loaded.spec, loaded.digest, loaded.provenance) == (spec, digest, provenance)
    assert torch.equal(loaded.network(pixels), network(pixels))
    assert not loaded.network.training
    assert not any(weight.requires_grad for weight in loaded.network.parameters())


def test_a_saved_cascade_comes_back_with_both_of_its_networks(tmp_path: Path) -> None:
    cascade = build_cascade(seed=3)
    digest = models.save(tmp_path, CASCADE, cascade.state_dict())
    loaded = models.load(tmp_path)
    assert (loaded.spec, loaded.digest) == (CASCADE, digest)
    assert models.digest(tmp_path) == digest
    assert isinstance(loaded.network, models.Cascade)
    for stage in ("scout", "judge"):
        one, other = getattr(loaded.network, stage), getattr(cascade, stage)
        pixels = torch.randint(0, 256, (2, 3, *other.spec.window_hw), dtype=torch.uint8)
        assert one.spec == other.spec
        assert torch.equal(one(pixels), other(pixels))
        assert not one.training
    assert not any(weight.requires_grad for weight in loaded.network.parameters())


def test_the_digest_of_a_cascade_is_of_its_stages_too(tmp_path: Path) -> None:
    weights = build_cascade().state_dict()
    digest = models.save(tmp_path / "a", CASCADE, weights)
    surer = replace(CASCADE, stages=(replace(SCOUT, threshold=0.3), JUDGE))
    assert models.save(tmp_path / "b", surer, weights) != digest
    weights["judge.layers.score.bias"] = weights["judge.layers.score.bias"] + 1
    assert models.save(tmp_path / "c", CASCADE, weights) != digest


def test_a_model_of_before_the_cascade_loads_with_the_digest_that_it_had(folder: Path) -> None:
    before = models.load(folder)
    document = json.loads((folder / "model.json").read_text())
    del document["spec"]["stages"]
    (folder / "model.json").write_text(json.dumps(document))
    found = models.load(folder)
    assert found.spec == SPEC
    pixels = torch.randint(0, 256, (1, 3, 22, 33), dtype=torch.uint8)
    assert torch.equal(found.network(pixels), before.network(pixels))
    del document["provenance"]
    assert found.digest == hashlib.sha256(storage.to_json(document)).hexdigest()


SCOUT_JSON, JUDGE_JSON = (json.loads(json.dumps(asdict(stage))) for stage in (SCOUT, JUDGE))


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([], "two stages"),
        ([SCOUT_JSON], "two stages"),
        ([JUDGE_JSON, SCOUT_JSON], "two stages"),
        ([SCOUT_JSON, JUDGE_JSON, JUDGE_JSON], "two stages"),
        ([SCOUT_JSON, {**JUDGE_JSON, "labels": ["", "a"]}], "do not fit together"),
        ([{**SCOUT_JSON, "stride": 8}, JUDGE_JSON], "do not fit together"),
        ([SCOUT_JSON, {**JUDGE_JSON, "widths": [2, 3, 4, 5, 6, 9]}], "should be"),
        ([SCOUT_JSON, {**JUDGE_JSON, "stages": [SCOUT_JSON]}], "stages of its own"),
        ([SCOUT_JSON, {**JUDGE_JSON, "stages": "x"}], "stages of its own"),
        ([SCOUT_JSON, {**JUDGE_JSON, "stages": None}], "cannot be None"),
        ([SCOUT_JSON, {**JUDGE_JSON, "stride": True}], "cannot be True"),
        ([SCOUT_JSON, {"architecture": "judge"}], "lacks fields"),
        ([SCOUT_JSON, {**JUDGE_JSON, "code": "x"}], "too many: code"),
        ([SCOUT_JSON, 7], "cannot be"),
        ({"0": SCOUT_JSON}, "cannot be"),
        (None, "cannot be None"),
    ],
)
def test_stages_that_do_not_fit_are_refused(
    cascade_folder: Path, stages: object, said: str
) -> None:
    rewrite(cascade_folder, stages=stages)
    for reader in (models.load, models.digest)[: 1 if said == "should be" else 2]:
        with pytest.raises(InputError, match=said):
            reader(cascade_folder)


def test_stages_are_of_a_cascade_alone(folder: Path) -> None:
    rewrite(folder, stages=[SCOUT_JSON, JUDGE_JSON])
    with pytest.raises(InputError, match="a lenet has no stages"):
        models.load(folder)


def test_a_cascade_without_the_weights_of_a_stage_is_refused(cascade_folder: Path) -> None:
    weights = build_cascade().state_dict()
    judge = {name: value for name, value in weights.items() if name.startswith("judge.")}
    replace_weights(cascade_folder, safetensors.torch.save(judge))
    with pytest.raises(InputError, match=r"weights missing.* scout\.layers\.conv1\.bias"):
        models.load(cascade_folder)


def test_weights_in_any_memory_format_give_the_same_file(tmp_path: Path) -> None:
    network = models.build(SPEC)
    first = models.save(tmp_path / "a", SPEC, network.state_dict())
    network.to(memory_format=torch.channels_last)
    assert models.save(tmp_path / "b", SPEC, network.state_dict()) == first
    for name in ("weights.safetensors", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_digest_is_of_spec_and_weights_but_not_of_provenance(tmp_path: Path) -> None:
    weights = models.build(SPEC).state_dict()
    digest = models.save(tmp_path / "a", SPEC, weights, {"commit": "abc"})
    assert models.digest(tmp_path / "a") == models.load(tmp_path / "a").digest == digest
    assert models.save(tmp_path / "b", SPEC, weights, {"commit": "def"}) == digest
    assert models.save(tmp_path / "c", replace(SPEC, threshold=0.6), weights) != digest
    assert models.save(tmp_path / "d", SPEC, models.build(SPEC, seed=9).state_dict()) != digest


def test_one_changed_byte_of_the_weights_is_refused(folder: Path) -> None:
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    for reader in (models.load, models.digest):
        with pytest.raises(InputError, match=r"not the file that model\.json was written for"):
            reader(folder)


def test_a_save_cut_short_over_an_older_model_is_refused(folder: Path, tmp_path: Path) -> None:
    """Weights are put first: new ones beside an old model.json must not pass for either."""
    models.save(tmp_path / "new", SPEC, models.build(SPEC, seed=5).state_dict())
    (tmp_path / "new" / "weights.safetensors").replace(folder / "weights.safetensors")
    with pytest.raises(InputError, match="copy it anew"):
        models.load(folder)


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.pt2", "model", "model.PTH"])
def test_a_pickle_is_refused_and_does_not_run(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(canary)))
    with pytest.raises(InputError, match=r"give a folder with model\.json"):
        models.load(tmp_path / name)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_pickle_inside_the_folder_does_not_run(folder: Path, tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    bomb = pickle.dumps(Bomb(canary))
    if name == "model.json":
        (folder / name).write_bytes(bomb)
    else:
        replace_weights(folder, bomb)
    with pytest.raises(InputError, match="broken"):
        models.load(folder)
    assert not canary.exists()


def test_a_folder_that_is_not_a_model_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="is not the folder of a model"):
            models.load(path)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    with pytest.raises(InputError, match=r"weights\.safetensors cannot be read"):
        models.load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("layers.conv1.bias"), "layers.conv1.bias"),  # a missing key
        (lambda w: w.update(extra=torch.zeros(1)), "extra"),  # one too many
        (lambda w: w.update({"layers.conv1.bias": torch.zeros(4)}), r"should be \(3,\)"),
        (lambda w: w.update({"layers.conv1.bias": torch.zeros(3).half()}), "float16"),
        (lambda w: w["layers.conv1.bias"].fill_(float("nan")), "not finite"),
    ],
)
def test_other_weights_than_the_networks_are_refused(
    folder: Path, tmp_path: Path, change, said: str
) -> None:
    weights = models.build(SPEC).state_dict()
    change(weights)
    replace_weights(folder, safetensors.torch.save(dict(weights)))
    with pytest.raises(InputError, match=said):
        models.load(folder)
    with pytest.raises(InputError, match=said):
        models.save(tmp_path / "never", SPEC, weights)
    assert not (tmp_path / "never").exists()


def test_absurd_sizes_are_refused_before_memory_is_taken(folder: Path) -> None:
    replace_weights(folder, struct.pack("<Q", 1 << 60) + b"{}")  # a header of an exabyte
    with pytest.raises(InputError, match="broken"):
        models.load(folder)
    (folder / "weights.safetensors").write_bytes(bytes(2 << 20))  # more than a lenet of this size
    with pytest.raises(InputError, match="larger than a lenet can be"):
        models.load(folder)
    (folder / "model.json").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(InputError, match="larger than 1,048,576 bytes"):
        models.load(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", "[" * 100_000, '{"format": 1}', '{"format": 1, "spec": 3}'],
)
def test_a_model_json_that_is_not_one_is_refused(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text)
    with pytest.raises(InputError, match=r"model\.json"):
        models.load(folder)


def test_another_format_names_the_way_out(folder: Path) -> None:
    rewrite(folder, format=2)
    with pytest.raises(InputError, match="use the version of nnst that wrote it"):
        models.load(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architecture", "vit"),
        ("architecture", 7),
        ("labels", [""]),
        ("labels", "logo"),
        ("labels", ["", 1]),
        ("labels", [str(number) for number in range(1001)]),
        ("window_hw", [22]),
        ("window_hw", [22, 33.0]),
        ("window_hw", [22, -33]),
        ("window_hw", [22, 10**30]),
        ("window_hw", [1000, 1000]),  # allowed as such, with weights to match; not with these
        ("stride", 0),
        ("stride", True),
        ("mean", [0, 0, "0"]),
        ("mean", [0, 0]),
        ("mean", [0, 0, 0, 0]),
        ("mean", [0, 0, 0, None]),
        ("calibration", [1, 0, "x"]),
        ("std", [1, 1, 0]),
        ("threshold", float("nan")),
        ("calibration", [1, float("inf")]),
        ("calibration", [1, 10**400]),
        ("widths", [10**9, 1, 1]),
        ("context", 0.0),
        ("context", None),
    ],
    ids=str,
)
def test_a_spec_that_cannot_be_is_refused(folder: Path, field: str, value: object) -> None:
    rewrite(folder, **{field: value})
    with pytest.raises(InputError):
        models.load(folder)


def three_numbers(value: object) -> bool:
    """Whether a mean could be this."""
    numbers = value if isinstance(value, list) else []
    return len(numbers) == 3 and all(type(n) in (int, float) and abs(n) <= 1e9 for n in numbers)


@settings(max_examples=60, deadline=None)
@given(
    field=st.sampled_from(
        ["spec", "format", "provenance", "weights_sha256", "stride", "mean", "stages"]
    ),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    ),
)
def test_no_json_value_gets_past_the_loader_or_breaks_it(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: object
) -> None:
    # These are what was there.
    assume((field, value) not in [("format", 1), ("stride", 4), ("stages", [])])
    assume(field != "mean" or not three_numbers(value))  # these make a spec that can be
    folder = tmp_path_factory.getbasetemp() / "any-json"
    models.save(folder, SPEC, models.build(SPEC).state_dict())
    rewrite(folder, **{field: value})
    if field == "provenance" and isinstance(value, dict):
        assert models.load(folder).provenance.keys() == value.keys()
        return
    with pytest.raises(InputError):
        models.load(folder)
