"""The memory of a fit, beside the bare loop of the same encoder.

    python examples/benchmarks/memory.py --data FOLDER_OF_CSV_FILES --backbone FOLDER

Every row is a process of its own. The memory is the largest resident memory of the
process, libraries included: while steps are taken, and during the whole fit, from
loading the backbone to placing the prototypes. The bare loop is forward, backward and a
fused AdamW step of the encoder under a linear head, with the same precision, adapters,
batches and parts. Seconds are processor time.

`--decoder` writes a decoder with random weights in bfloat16 to a folder and trains
adapters of it. What a decoder of 8 billion parameters needs is calculated. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
from measuring import table
from memory_worker import SEED, add_adapters, layers_of
from tasks import provenance
from transformers import AutoModel, AutoTokenizer, Qwen3Config

WORKER = Path(__file__).with_name("memory_worker.py")
TITLES = ["parts", "checkpoints", "steps, GB", "fit, GB", "CPU s / step"]
TITLES += ["bare loop, GB", "bare loop, CPU s / step"]
# As published for Qwen3-1.7B and Qwen3-8B.
SHAPES: dict[str, dict[str, int]] = {
    "1.4": {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
    },
    "8": {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
    },
}
VOCABULARY = 151_936
TOKENS = 512  # of a text, in the calculation


def configuration(shape: str, **changed: Any) -> Qwen3Config:
    """Return the configuration of a decoder like Qwen3."""
    fixed = {"num_key_value_heads": 8, "head_dim": 128, "use_cache": False}
    return Qwen3Config(**{**SHAPES[shape], **fixed, **changed})


def write_decoder(folder: Path, n_layers: int, backbone: str) -> None:
    """Save a decoder with random weights in bfloat16 and the backbone's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    config = configuration(
        "1.4",
        num_hidden_layers=n_layers,
        layer_types=["full_attention"] * n_layers,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(SEED)
    model = AutoModel.from_config(config, dtype=torch.bfloat16)
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"{n_parameters / 1e9:.2f} billion parameters", file=sys.stderr)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def run(what: str, data: Path, n_texts: int, n_sentences: int, options: Any) -> Any:
    """Run the worker in a process of its own; None if it fails, as it says then."""
    arguments = [what, str(data), n_texts, n_sentences, options]
    command = [sys.executable, str(WORKER), *map(json.dumps, arguments)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode:
        print(f"{what} {options}: failed", file=sys.stderr)
        return None
    return json.loads(process.stdout.splitlines()[-1])


def gigabytes(result: Any, name: str) -> str:
    """Format bytes."""
    return f"{result[name] / 1e9:.2f}" if result else "–"


def row(title: str, parts: int, flag: bool, fit: Any, bare: Any) -> None:
    """Print a row of the table."""
    cells = [
        str(parts),
        "yes" if flag else "no",
        gigabytes(fit, "steps"),
        gigabytes(fit, "fit"),
        f"{fit['seconds']:.1f}" if fit else "–",
        gigabytes(bare, "steps"),
        f"{bare['seconds']:.1f}" if bare else "–",
    ]
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def measure(
    data: Path,
    backbone: str,
    n_texts: int,
    n_sentences: int,
    settings: list,
    *,
    bare_checkpoints: bool,
    **fixed: Any,
) -> None:
    """Print a table of fits with these settings."""
    table("finetune", TITLES)
    for finetune, parts, flag in settings:
        options = {
            "backbone": backbone,
            "finetune": finetune,
            "gradient_accumulation_steps": parts,
            "gradient_checkpointing": flag,
            "batch_size": 32,
            "max_epochs": 1,
            **fixed,
        }
        sizes = (data, n_texts, n_sentences, options)
        bare = None
        if finetune != "head" and (bare_checkpoints or not flag):
            bare = run("bare", *sizes)
        row(str(finetune), parts, flag, run("fit", *sizes), bare)


def kept_by_a_layer(shape: str) -> tuple[int, int]:
    """Return the bytes that the graph of a layer keeps of a text, and its adapters.

    They are counted on a layer with random weights under bfloat16 autocast.
    """
    config = configuration(
        shape, num_hidden_layers=1, layer_types=["full_attention"], vocab_size=8
    )
    model = AutoModel.from_config(config, dtype=torch.bfloat16).requires_grad_(False)
    path, layers = layers_of(model)
    add_adapters(model, path)
    weights = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    states = torch.randn(1, TOKENS, config.hidden_size, requires_grad=True)
    rotary = model.rotary_emb(states, torch.arange(TOKENS)[None])
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        output = layers[0](states, position_embeddings=rotary, attention_mask=None)
    assert output is not None  # its graph keeps what is counted
    n_adapted = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return sum(kept.values()), n_adapted


def calculate(shape: str) -> None:
    """Print what adapters of a large decoder need, with one text read at once."""
    config: Any = configuration(shape)
    H, F, L = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    Q = config.num_attention_heads * config.head_dim
    K = config.num_key_value_heads * config.head_dim
    n_weights = L * (2 * H * Q + 2 * H * K + 3 * H * F)
    n_embeddings = VOCABULARY * H
    kept, n_adapted = kept_by_a_layer(shape)
    n_adapted *= L
    inputs = 4 * L * TOKENS * H
    rows = [
        (f"{n_weights / 1e9:.2f} billion weights of layers, bfloat16", 2 * n_weights),
        (f"{n_embeddings / 1e9:.2f} billion of embeddings, float32", 4 * n_embeddings),
        (f"{n_adapted / 1e6:.0f} million of adapters, float32", 4 * n_adapted),
        ("gradients and optimizer states of adapters", 12 * n_adapted),
        (f"inputs of {L} layers for {TOKENS} tokens, float32", inputs),
        ("what one layer keeps for its backward pass", kept),
    ]
    rows.append(("**steps with checkpoints**", sum(size for _, size in rows)))
    rows.append(("**steps without**", rows[-1][1] - inputs + (L - 1) * kept))
    whole = 4 * (n_weights + n_embeddings)
    rows.append(("**before and after the steps**: weights in float32", whole))
    table(f"Adapters of a decoder like Qwen3-{shape}B, calculated", ["GB"])
    for title, size in rows:
        print(f"| {title} | {size / 1e9:.2f} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--backbone", help="folder of all-mpnet-base-v2")
    parser.add_argument("--finetune", nargs="+", default=("full", "lora", "3", "head"))
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--sentences", type=int, default=1, help="of SST-2, per text")
    parser.add_argument("--decoder", type=Path, help="a folder to write it to")
    parser.add_argument("--tokenizer", help="folder of the tokenizer of the decoder")
    parser.add_argument("--layers", type=int, default=28, help="of the decoder")
    arguments = parser.parse_args()
    print(f"{provenance()} Seed {SEED}, {torch.get_num_threads()} threads.\n")
    if arguments.backbone:
        settings = [
            (int(name) if name.isdigit() else name, parts, flag)
            for name, parts, flag in product(arguments.finetune, (1, 4), (False, True))
            if not (name == "head" and flag)  # nothing runs again
        ]
        sizes = (arguments.texts, arguments.sentences)
        measure(  # MPNet has no checkpoints in transformers
            arguments.data,
            arguments.backbone,
            *sizes,
            settings,
            bare_checkpoints=False,
        )
        print()
    if arguments.decoder:
        tokenizer = arguments.tokenizer or arguments.backbone
        write_decoder(arguments.decoder, arguments.layers, tokenizer)
        measure(
            arguments.data,
            str(arguments.decoder),
            8,
            2,
            [("lora", 4, True)],
            bare_checkpoints=True,
            batch_size=4,
        )
        print()
    calculate("8")


if __name__ == "__main__":
    main()
