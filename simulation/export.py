"""A final model as one ONNX file, held against torch before it may stand.

The graph takes 8-bit films as the learner reads them (N, 1, S, S; values 0 to 255, as float32) and
gives each finding's score (logit) and calibrated probability: standardising, the network, the
score of the objective and the calibration are all inside. What prepares a film is not: the
metadata says which preprocessing the model was trained with.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from client.learners.inputs import standardise
from client.learners.interface import Learner
from client.learners.platt import Line
from ledger.errors import ConfigError, OutputError
from ledger.files import atomic_write

TOLERANCE = 1e-4
"""Largest difference of a probability between ONNX Runtime and torch."""
OPSET = 18
_CHECKED = 9
"""Films that both are asked about; not a size that the export saw."""


class Deployed(nn.Module):
    """Films (N, 1, S, S) of values 0 to 255 to scores and probabilities (N, L)."""

    def __init__(self, learner: Learner, module: nn.Module, lines: tuple[Line, ...]) -> None:
        super().__init__()
        self.network = module
        self.learner = learner
        self.register_buffer("slopes", torch.tensor([line.slope for line in lines]))
        self.register_buffer("offsets", torch.tensor([line.offset for line in lines]))

    def forward(self, films: Tensor) -> tuple[Tensor, Tensor]:
        """Return (scores, probabilities)."""
        scores = self.learner.scores(self.network(standardise(films)))
        lines = scores * self.get_buffer("slopes") + self.get_buffer("offsets")
        return scores, torch.sigmoid(lines)


def export_onnx(
    learner: Learner,
    module: nn.Module,
    lines: tuple[Line, ...],
    path: Path,
    about: Mapping[str, object],
) -> float:
    """Write an ONNX file that agrees with torch, or none.

    Args:
        learner: the family.
        module: with the model loaded.
        lines: each finding's calibration.
        path: of the file; must not exist.
        about: what its metadata say, as JSON under ``thoracle``.

    Returns:
        the largest difference of a probability on random, dark and blank films.

    Raises:
        ConfigError: the optional packages are missing, or the network cannot be exported.
        OutputError: the file is there already, or what was exported differs from torch.
    """
    if path.exists():
        raise OutputError(f"{path} is there already")
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter writes by it
    except ImportError as error:
        raise ConfigError(
            f"exporting needs the package {error.name}: pip install 'thoracle[onnx]'"
        ) from None
    deployed = Deployed(learner, module, lines).eval()
    side = learner.input_size
    films = _films(side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's remarks about its own parts
        try:
            program = torch.onnx.export(
                deployed,
                (films[:2],),
                input_names=["films"],
                output_names=["scores", "probabilities"],
                dynamic_shapes={"films": {0: torch.export.Dim("batch")}},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            raise ConfigError(
                f"learner {learner.name} cannot be exported: {type(error).__name__}"
            ) from error
    if program is None:
        raise ConfigError(f"learner {learner.name} cannot be exported")
    proto = program.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = "thoracle", json.dumps(dict(about), sort_keys=True)
    data = proto.SerializeToString()
    onnx.checker.check_model(onnx.load_from_string(data))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(["probabilities"], {"films": films.numpy()})[0]
    with torch.inference_mode():
        expected = deployed(films)[1].numpy()
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise OutputError(f"the exported model differs from torch by {difference:.2g}: not written")
    atomic_write(path, data)
    return difference


def _films(side: int) -> Tensor:
    """Return films to compare on: noise of several kinds, a dark one, a blank one."""
    generator = torch.Generator().manual_seed(0)
    films = torch.randint(0, 256, (_CHECKED, 1, side, side), generator=generator).float()
    films[1] //= 32
    films[2] = 0.0
    films[3, :, : side // 2] = 255.0
    return films
