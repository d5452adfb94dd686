"""Tiny configurations of dense decoders, exported on the same paths as the real models (see make_fixtures.py)."""
import torch
from make_fixtures import Case
from torch.export import Dim
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)
from transformers.cache_utils import DynamicCache
from transformers.integrations.executorch import (
    TorchExportableModuleWithHybridCache,
    TorchExportableModuleWithStaticCache,
)

VOCAB = 96
CACHE = 32
NOCACHE_MAX = 48
SIZES = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0)


def llama(**more):
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32}
    return LlamaConfig(**SIZES, rope_parameters=rope, **more)


def qwen2():
    return Qwen2Config(**SIZES)


def qwen3():
    return Qwen3Config(**SIZES, head_dim=16)


def gemma2():
    return Gemma2Config(**SIZES, head_dim=16, query_pre_attn_scalar=16, sliding_window=8)


def gemma3():
    return Gemma3TextConfig(**SIZES, head_dim=16, query_pre_attn_scalar=16, sliding_window=8,
                            layer_types=["sliding_attention", "full_attention"])


def gpt2():
    return GPT2Config(vocab_size=VOCAB, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)


def phi3():
    return Phi3Config(**SIZES, bos_token_id=1, eos_token_id=2)


def olmo2():
    return Olmo2Config(**SIZES)


def mistral_sw():
    return MistralConfig(**SIZES, head_dim=8, sliding_window=8)


class NoCache(torch.nn.Module):
    """Logits of a whole sequence, without a cache."""

    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self, *args):
        return self.m(args[0], use_cache=False).logits


class DynCache(torch.nn.Module):
    """One token with the keys and values so far as inputs, and one longer as outputs."""

    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self, input_ids, position_ids, kv):
        cache = DynamicCache()
        for layer in range(len(kv) // 2):
            cache.update(kv[2 * layer], kv[2 * layer + 1], layer)
        out = self.m(input_ids, position_ids=position_ids, past_key_values=cache, use_cache=True)
        return (out.logits, *(t for layer in cache.layers for t in (layer.keys, layer.values)))


def build_model(config, dtype=torch.float32, attention="sdpa"):
    """A model with logits of a trained one's size: weights around 1/sqrt(width), norms near one, biases not zero."""
    config._attn_implementation = attention
    model = AutoModelForCausalLM.from_config(config)
    zero_centred = "gemma" in config.model_type
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            if parameter.dim() > 1:
                parameter.copy_(noise / config.hidden_size**0.5)
            else:
                one = 1.0 if name.endswith("weight") and not zero_centred else 0.0
                parameter.copy_(one + 0.1 * noise)
    return model.to(dtype).eval()


def ids(length):
    return torch.randint(1, VOCAB, (1, length))


def cached(config, dtype=torch.float32, wrapper=TorchExportableModuleWithStaticCache, prefills=(7, 4), decodes=4, forms=("model", "func", "core")):
    """A static cache: prefills, single tokens, and a restart at the longest length that the export allows."""

    def case(name):
        model = build_model(config(), dtype)
        model.generation_config = GenerationConfig(
            use_cache=True, cache_implementation="static", max_length=CACHE, cache_config={"batch_size": 1, "max_cache_len": CACHE})
        lengths = [*prefills, *[1] * decodes]
        calls, at = [], 0
        for length in lengths:
            calls.append([ids(length), torch.arange(at, at + length)])
            at += length
        calls.append([ids(CACHE - 1), torch.arange(CACHE - 1)])
        calls.append([ids(1), torch.tensor([CACHE - 1])])
        length = Dim("seq_length_dim", max=CACHE - 1)
        return Case(name, wrapper(model), (), calls, kwargs={"input_ids": ids(3), "cache_position": torch.arange(3)},
                    dynamic_shapes={"input_ids": {1: length}, "cache_position": {0: length}}, strict=True, forms=forms, group="decoders")

    return case


def nocache(config, forms=("model", "core"), attention="sdpa"):
    """A plain forward at the example's length, both ends of the range, and one between."""

    def case(name):
        module = NoCache(build_model(config(), attention=attention))
        calls = [[ids(length)] for length in (16, 2, 5, NOCACHE_MAX)]
        return Case(name, module, (ids(16),), calls, dynamic_shapes={"args": ({1: Dim("seq", min=2, max=NOCACHE_MAX)},)}, forms=forms, group="decoders")

    return case


def dyncache(config, forms=("model", "func", "core")):
    def case(name):
        built = config()
        width = built.hidden_size // built.num_attention_heads
        shape = (1, built.num_key_value_heads)

        def call(past):
            kv = [torch.randn(*shape, past, width) for _ in range(2 * built.num_hidden_layers)]
            return ids(1), torch.tensor([[past]]), kv

        def flat(past):
            tokens, position, kv = call(past)
            return [tokens, position, *kv]

        past = Dim("past", min=2, max=CACHE)
        return Case(name, DynCache(build_model(built)), call(9), [flat(p) for p in (9, 2, 3, CACHE)],
                    dynamic_shapes={"input_ids": None, "position_ids": None, "kv": [{2: past}] * (2 * built.num_hidden_layers)},
                    deferred_asserts=True, forms=forms, group="decoders")

    return case


CASES = {
    "llama3_cache_fp32": cached(llama),
    "llama3_cache_bf16": cached(llama, torch.bfloat16, forms=("model", "core")),
    "llama3_cache_fp16": cached(llama, torch.float16, forms=("model",)),
    "llama3_nocache_fp32": nocache(llama),
    "llama3_dyncache_fp32": dyncache(llama, forms=("model", "core")),
    "qwen2_nocache_fp32": nocache(qwen2, forms=("model",)),
    "qwen3_cache_fp32": cached(qwen3, forms=("model", "core")),
    "gemma2_nocache_fp32": nocache(gemma2, attention="eager"),
    "gemma3_cache_fp32": cached(gemma3, wrapper=TorchExportableModuleWithHybridCache, prefills=(12, 12), decodes=4, forms=("model", "core")),
    "gpt2_cache_fp32": cached(gpt2, forms=("model", "core")),
    "gpt2_nocache_fp32": nocache(gpt2),
    "phi3_cache_fp32": cached(phi3, forms=("model", "core")),
    "olmo2_nocache_fp32": nocache(olmo2, forms=("model",)),
    "mistral_sw_cache_fp32": cached(mistral_sw, prefills=(12, 12), decodes=4, forms=("model", "core")),
}
