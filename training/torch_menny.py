"""Menny once more, in PyTorch: an independent check of the MLX one, and a second way to train her.

The modules have the names of MLX's, so that both load the same `.npz`. What MLX and PyTorch do
differently by default is done MLX's way: Adam's moments are not corrected for their bias. Only
this module needs the optional package `torch`, and nothing imports it unless it is asked for.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from training.architecture import MLP_DIMS, NUM_HEADS, NUM_LAYERS
from training.config import TrainingConfig
from training.dataset import Dataset
from training.errors import MissingPackageError
from training.vocabulary import PADDING, VOCABULARY_SIZE, Letters, one_hot

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
except ImportError as error:
    raise MissingPackageError(
        f"PyTorch is not installed ({error}): `pip install torch` where Menny is installed"
    ) from None

DIMS = VOCABULARY_SIZE


class Attention(nn.Module):
    """Multi-head attention without mask and without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.query_proj = nn.Linear(DIMS, DIMS, bias=False)
        self.key_proj = nn.Linear(DIMS, DIMS, bias=False)
        self.value_proj = nn.Linear(DIMS, DIMS, bias=False)
        self.out_proj = nn.Linear(DIMS, DIMS, bias=False)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Rows that ask (B, L, D) and rows that are asked (B, L, D) to rows (B, L, D)."""

        def heads(rows: Tensor) -> Tensor:
            return rows.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2)  # (B, H, L, D / H)

        attended = functional.scaled_dot_product_attention(
            heads(self.query_proj(x)), heads(self.key_proj(memory)), heads(self.value_proj(memory))
        )
        projected: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return projected


class EncoderLayer(nn.Module):
    """Attention, then two linear layers; each after a LayerNorm, each added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.ln1, self.ln2 = nn.LayerNorm(DIMS), nn.LayerNorm(DIMS)
        self.linear1, self.linear2 = nn.Linear(DIMS, MLP_DIMS), nn.Linear(MLP_DIMS, DIMS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        y = self.ln1(x)
        x = x + self.attention(y, y)
        return x + self.linear2(functional.relu(self.linear1(self.ln2(x))))


class DecoderLayer(nn.Module):
    """As the encoder's, with attention to the encoder's output in between."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attention, self.cross_attention = Attention(), Attention()
        self.ln1, self.ln2, self.ln3 = (nn.LayerNorm(DIMS) for _ in range(3))
        self.linear1, self.linear2 = nn.Linear(DIMS, MLP_DIMS), nn.Linear(MLP_DIMS, DIMS)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """(B, L, D) and the encoder's output (B, L, D) to (B, L, D)."""
        y = self.ln1(x)
        x = x + self.self_attention(y, y)
        x = x + self.cross_attention(self.ln2(x), memory)
        return x + self.linear2(functional.relu(self.linear1(self.ln3(x))))


class Stack(nn.Module):
    """Layers one after the other, and a LayerNorm."""

    def __init__(self, kind: type[EncoderLayer] | type[DecoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(kind() for _ in range(NUM_LAYERS))
        self.ln = nn.LayerNorm(DIMS)

    def forward(self, x: Tensor, *memory: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        for layer in self.layers:
            x = layer(x, *memory)
        normalised: Tensor = self.ln(x)
        return normalised


class Transformer(nn.Module):
    """Encoder and decoder, both of the same input."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Stack(EncoderLayer), Stack(DecoderLayer)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        decoded: Tensor = self.decoder(x, self.encoder(x))
        return decoded


class TorchMenny(nn.Module):
    """The same as `training.model.Menny`."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = Transformer()
        self.fc = nn.Linear(DIMS, VOCABULARY_SIZE)

    def forward(self, one_hot: Tensor) -> Tensor:
        """One-hot rows (B, L, V), zeros where the query has ended, to logits (B, L, V)."""
        logits: Tensor = self.fc(self.transformer(one_hot))
        return logits


class TorchLearner:
    """Menny in PyTorch, with fresh weights from the configuration's seed: a `trainer.Learner`."""

    def __init__(self, config: TrainingConfig) -> None:
        with torch.random.fork_rng():  # leaves the process's own generator as it was
            torch.manual_seed(config.seed)
            self._model = TorchMenny()
        self._config = config
        self._betas = (0.9, config.beta2)
        self._optimizer = torch.optim.Adam(self._model.parameters(), betas=self._betas)
        self._decayed = [
            value for name, value in self._model.named_parameters() if ".layers." in name
        ]
        self._steps = 0

    def step(self, batch: Dataset) -> float:
        """One optimizer step; returns the batch's loss in nats a letter."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._without_bias_correction()
        loss = cross_entropy_loss(
            self._model(torch.from_numpy(one_hot(batch.queries))),
            torch.from_numpy(batch.labels.astype(np.int64)),
            mask_padding=self._config.mask_padding,
        )
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._config.max_grad_norm)
        with torch.no_grad():  # AdamW's decay, which PyTorch's would take from the group's rate
            kept = 1 - learning_rate_at(self._config, self._steps) * self._config.weight_decay
            for value in self._decayed:
                value.mul_(kept)
        self._optimizer.step()
        self._steps += 1
        return float(loss.detach())

    def forward(self, letters: Letters) -> npt.NDArray[np.float32]:
        """Letters (B, L) to logits (B, L, V)."""
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = self._model(
                torch.from_numpy(one_hot(letters))
            ).numpy()
        return logits

    def parameters(self) -> dict[str, npt.NDArray[np.float32]]:
        """A copy of the parameters, by the names that an `.npz` of Menny's has."""
        return {name: value.numpy().copy() for name, value in self._model.state_dict().items()}

    def load(self, parameters: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Put `parameters` in place of the model's own."""
        self._model.load_state_dict(
            {name: torch.from_numpy(np.array(value)) for name, value in parameters.items()}
        )

    def _without_bias_correction(self) -> float:
        """The learning rate that takes PyTorch's bias correction of Adam's moments back.

        Algorithm 1 of Kingma and Ba (2015), https://arxiv.org/abs/1412.6980, and the remark after.
        """
        mean_decay, square_decay = (beta ** (self._steps + 1) for beta in self._betas)
        rate = learning_rate_at(self._config, self._steps)
        return rate * (1 - mean_decay) / math.sqrt(1 - square_decay)


def use_one_thread() -> None:
    """Have PyTorch compute on the calling thread alone, as `training.blas` has it for MLX.

    Threads gain little on matrices this small, and cost a lot where others use the cores.
    """
    torch.set_num_threads(1)


def cross_entropy_loss(logits: Tensor, labels: Tensor, *, mask_padding: bool) -> Tensor:
    """As `training.loss.cross_entropy_loss`: logits (B, L, V), labels (B, L) or (B, R, L)."""
    if not mask_padding:
        labels = labels.clamp(min=0)  # an empty position's label is 0, as in the book
    labels = labels.reshape(len(logits), -1, labels.shape[-1])
    repeated = logits[:, None].expand(*labels.shape, VOCABULARY_SIZE)  # (B, R, L, V)
    return functional.cross_entropy(repeated.flatten(0, 2), labels.flatten(), ignore_index=PADDING)


def learning_rate_at(config: TrainingConfig, step: int) -> float:
    """The learning rate of a step, counted from 0: warm-up, then constant or cosine decay."""
    peak, warm_up = config.learning_rate, config.warm_up_steps
    if step < warm_up:
        return peak * (1 + (warm_up - 1) * step / warm_up) / warm_up
    if config.schedule == "constant":
        return peak
    decay_steps = max(1, config.num_steps - warm_up)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1, (step - warm_up) / decay_steps)))
