"""A card that is not there: tensors that say "cuda:0" and hold their numbers on the CPU.

Every operator that reaches one of them passes through `Card`, below autograd and autocast, where a card would launch a
kernel. It refuses what a card refuses (tensors on two devices, types that flash attention does not take) and counts
launches, waits of the host, and bytes. It knows nothing of real kernels' rounding, order, speed or own workspaces.

Import this before torch: the library beside it (`guard.cpp`, compiled by g++) has to be there when torch looks for it.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
import weakref
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from unittest import mock


def _install_guard() -> None:
    assert "torch" not in sys.modules, "import this before torch"
    torch_folder = Path(importlib.util.find_spec("torch").origin).parent
    source = Path(__file__).with_name("guard.cpp")
    library = Path(tempfile.gettempdir()) / f"rehearsal-guard-{importlib.metadata.version('torch')}.so"
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "guard.so"
            include = [f"-I{torch_folder}/include", f"-I{torch_folder}/include/torch/csrc/api/include"]
            flags = ["-std=c++20", "-O1", "-shared", "-fPIC", *include]
            link = [f"-L{torch_folder}/lib", "-lc10", "-ltorch_cpu"]
            subprocess.run(["g++", *flags, str(source), "-o", str(made), *link], check=True)
            library.write_bytes(made.read_bytes())
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(torch_folder / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    assert ctypes.CDLL(str(library)).install()


_install_guard()

import torch  # noqa: E402
from torch._library.custom_ops import OPDEFS  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing  # noqa: E402
from torch.utils._pytree import tree_leaves, tree_map  # noqa: E402

DEVICE, CPU = torch.device("cuda", 0), torch.device("cpu")
HALF = (torch.bfloat16, torch.float16)
aten = torch.ops.aten

_NO_KERNEL = {
    "alias", "as_strided", "detach", "diagonal", "empty", "empty_like", "empty_strided", "expand", "lift_fresh",
    "new_empty", "new_empty_strided", "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t",
    "transpose", "unbind", "unfold", "unsafe_split", "unsqueeze", "view", "_reshape_alias", "_unsafe_view",
}  # fmt: skip
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_WAITING = {"nonzero", "masked_select", "equal", "allclose", "bincount", "_unique2"}


class Refused(RuntimeError):
    """What a card would not have done."""


class CardTensor(torch.Tensor):
    """Says that it lies on cuda:0; `inner` holds its numbers."""

    @staticmethod
    def __new__(cls, inner):
        shape = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), device=DEVICE, **shape)

    def __init__(self, inner):
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return Card.now.run(func, args, kwargs or {})

    def untyped_storage(self):
        return self.inner.untyped_storage()

    def tolist(self):
        return self.cpu().tolist()

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, other):  # the numbers move with the tensor
        torch.Tensor.data.__set__(self, other)
        self.inner = other.inner


class Card(TorchDispatchMode):
    """The card, and the books kept of it.

    Attributes:
        launches: Kernels, by their operators' names.
        waits: Places where the host waits for the card.
        live: Bytes held now.
        peak: Most bytes held at a time since `live` was last copied to it.
    """

    now: Card

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.live = self.peak = 0
        self._known: set[int] = set()
        self._stack = ExitStack()

    def __enter__(self):
        Card.now = self
        there = {
            "is_available": lambda: True,
            "is_bf16_supported": lambda *a, **k: True,
            "_lazy_init": lambda: None,
            "current_device": lambda: 0,
            "device_count": lambda: 1,
        }
        for name, value in there.items():
            self._stack.enter_context(mock.patch.object(torch.cuda, name, value))
        torch._C._set_only_lift_cpu_tensors(True)
        torch.__future__.set_swap_module_params_on_conversion(True)
        self._stack.enter_context(_Functions())
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._stack.close()
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_swap_module_params_on_conversion(False)

    @contextmanager
    def counting(self):
        """Launches and waits inside, as (Counter, Counter)."""
        before, self.launches, self.waits = (self.launches, self.waits), Counter(), Counter()
        try:
            yield self.launches, self.waits
        finally:
            self.launches, self.waits = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.run(func, args, kwargs or {})

    def run(self, func, args, kwargs):
        """An operator, on the card if any of its tensors is or it is to make one there."""
        space, name = func._schema.name.split("::")
        leaves = tree_leaves((args, kwargs))
        asked = kwargs.get("device")
        here = any(isinstance(x, CardTensor) for x in leaves)
        if not here and (asked is None or torch.device(asked).type != "cuda"):
            return func(*args, **kwargs)
        if space not in ("aten", "prim", "prims"):
            with self._watched():  # an operator of the program's own: what it does is looked at
                return OPDEFS[func._schema.name]._init_fn(*args, **kwargs)
        if name in _SPECIAL:
            return self.special(name, args, kwargs)
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self._watched():
                return func.decompose(*args, **kwargs)
        if name in ("_local_scalar_dense", "_to_copy", "copy_"):
            return getattr(self, name)(func, args, kwargs)
        self._check(name, args, leaves, kwargs)
        return self._compute(func, name, args, kwargs)

    def special(self, name, args, kwargs):
        """An operator that only a card has."""
        self.launches[name] += 1
        return tree_map(self._wrapped, _SPECIAL[name](*args, **kwargs))

    def _compute(self, func, name, args, kwargs):
        inner_args, inner_kwargs = tree_map(lambda x: x.inner if isinstance(x, CardTensor) else x, (args, kwargs))
        if inner_kwargs.get("device") is not None:
            inner_kwargs["device"] = CPU
        result = func(*inner_args, **inner_kwargs)
        if name not in _NO_KERNEL:
            self.launches[name] += 1
        aliases = [r.alias_info for r in func._schema.returns]
        if any(alias is not None and alias.is_write for alias in aliases):
            given = zip(func._schema.arguments, args, strict=False)
            written = [a for s, a in given if s.alias_info is not None and s.alias_info.is_write]
            return written[0] if written else kwargs.get("out", result)
        if not any(aliases):
            return tree_map(self._wrapped, result)
        # a view of a normal tensor is a normal one, in inference mode too
        normal = any(isinstance(x, CardTensor) and not x.is_inference() for x in tree_leaves((args, kwargs)))
        with torch.inference_mode(False) if normal and torch.is_inference_mode_enabled() else nullcontext():
            return return_and_correct_aliasing(func, args, kwargs, tree_map(self._wrapped, result))

    def _check(self, name, args, leaves, kwargs):
        if name in _INDEXING:
            indices = [i for i in args[1] if i is not None]
            if not isinstance(args[0], CardTensor):
                raise Refused(f"{name}: a tensor on the CPU, indices on cuda:0")
            if any(i.dtype == torch.bool or not isinstance(i, CardTensor) for i in indices):
                self.wait(name)
            return
        on_cpu = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, CardTensor) and x.dim() > 0]
        if on_cpu and not name.startswith("_foreach"):
            raise Refused(f"{name}: expected all tensors on one device, found cuda:0 and cpu {tuple(on_cpu[0].shape)}")
        if name in _WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            self.wait(name)

    def wait(self, what):
        """Notes that the host waits, and for which line of the program."""
        frame = sys._getframe(1)
        while frame is not None and "/squish_pl/" not in frame.f_code.co_filename:
            frame = frame.f_back
        where = "?" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        self.waits[f"{what} at {where}"] += 1

    def _local_scalar_dense(self, func, args, kwargs):
        self.wait("item")
        return func(args[0].inner)

    def _to_copy(self, func, args, kwargs):
        source, device = args[0], torch.device(kwargs.get("device") or args[0].device)
        rest = {k: v for k, v in kwargs.items() if k not in ("device", "non_blocking")}
        inner = source.inner if isinstance(source, CardTensor) else source
        if isinstance(source, CardTensor) != (device.type == "cuda"):
            self.wait("copy from the card" if isinstance(source, CardTensor) else "copy to the card")
        else:
            self.launches["_to_copy"] += 1
        result = func(inner, **rest)
        result = result.clone() if result.untyped_storage()._cdata == inner.untyped_storage()._cdata else result
        return self._wrapped(result) if device.type == "cuda" else result

    def copy_(self, func, args, kwargs):
        target, source = args[:2]
        if isinstance(target, CardTensor) and isinstance(source, CardTensor):
            self.launches["copy_"] += 1
        else:
            self.wait("copy between host and card")
        inner = [x.inner if isinstance(x, CardTensor) else x for x in (target, source)]
        inner[0].copy_(inner[1])
        return target

    @contextmanager
    def _watched(self):
        TorchDispatchMode.__enter__(self)
        try:
            yield
        finally:
            TorchDispatchMode.__exit__(self, None, None, None)

    def _wrapped(self, result):
        if not isinstance(result, torch.Tensor):
            return result
        storage = result.untyped_storage()
        if (key := storage._cdata) not in self._known:
            size = -(-storage.nbytes() // 512) * 512  # as the allocator rounds
            self._known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._freed, key, size)
        return CardTensor(result)

    def _freed(self, key, size):
        self._known.discard(key)
        self.live -= size


class _Functions(TorchFunctionMode):
    """Attention chooses its kernel by the build's devices: here as on a card."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention and isinstance(args[0], CardTensor):
            q, k, v = args[:3]
            if q.dtype in HALF and kwargs.get("attn_mask") is None:
                causal, scale = kwargs.get("is_causal", False), kwargs.get("scale")
                return aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, scale=scale)[0]
        if func in (torch.rms_norm, torch.nn.functional.rms_norm) and isinstance(args[0], CardTensor):
            # one kernel on a card; a build without it takes the operator apart before it comes to be seen
            return Card.now.special("_fused_rms_norm", args, kwargs)
        return func(*args, **kwargs)


# ---- operators that only a card has, by the CPU's mathematics ----


def _as_flash_takes(what, tensors, lse=None):
    for x in tensors:
        if not isinstance(x, CardTensor):
            raise Refused(f"{what}: a tensor on the CPU")
        if x.dtype not in HALF or x.dtype != tensors[0].dtype:
            raise Refused(f"{what}: takes one half-precision type, got {[str(x.dtype) for x in tensors]}")
    for x in tensors[:3]:
        if x.stride(-1) != 1 or x.shape[-1] % 8 or 0 in x.shape:
            raise Refused(f"{what}: shape {tuple(x.shape)}, strides {x.stride()}")
    if lse is not None and (not isinstance(lse, CardTensor) or lse.dtype != torch.float32 or not lse.is_contiguous()):
        raise Refused(f"{what}: log-sum-exp in {lse.dtype}, strides {lse.stride()}")


def _flash(q, k, v, p=0.0, causal=False, debug=False, *, scale=None):
    _as_flash_takes("flash attention", (q, k, v))
    cpu = aten._scaled_dot_product_flash_attention_for_cpu
    out, lse = cpu(q.inner, k.inner, v.inner, 0.0, causal, scale=scale)
    nothing = torch.zeros((), dtype=torch.int64)
    return out, lse, None, None, q.shape[2], k.shape[2], nothing, nothing.clone(), out.new_empty(0)


def _flash_backward(grad, q, k, v, out, lse, cum_q, cum_k, most_q, most_k, p, causal, seed, offset, *, scale=None):
    _as_flash_takes("flash attention's backward", (q, k, v, out, grad), lse)
    cpu = aten._scaled_dot_product_flash_attention_for_cpu_backward
    return cpu(*(x.inner for x in (grad, q, k, v, out, lse)), 0.0, causal, scale=scale)


def _flash_of_rows(q, k, v, before_q, before_k, most_q, most_k, p, causal, debug, *, scale=None):
    _as_flash_takes("flash attention of rows", (q, k, v))
    if before_q.dtype != torch.int32 or before_k.dtype != torch.int32:
        raise Refused("flash attention of rows: its sums must be int32")
    out, lse = torch.empty_like(q.inner), torch.empty(q.shape[1], q.shape[0])
    rows, keys = ([slice(*pair) for pair in pairwise(x.inner.tolist())] for x in (before_q, before_k))
    if before_q.inner[-1] != len(q) or before_k.inner[-1] != len(k):
        raise Refused("flash attention of rows: its sums are not those of the tensors")
    for row, key in zip(rows, keys, strict=True):
        if row.start < row.stop:
            parts = (x.inner[part].transpose(0, 1).unsqueeze(0) for x, part in ((q, row), (k, key), (v, key)))
            one, sums = aten._scaled_dot_product_flash_attention_for_cpu(*parts, 0.0, causal, scale=scale)
            out[row], lse[:, row] = one[0].transpose(0, 1), sums[0]
    nothing = torch.zeros(2, dtype=torch.int64)
    return out, lse, nothing, nothing.clone(), out.new_empty(0)


def _rms_norm(x, shape, weight=None, eps=None):
    if not x.is_contiguous():
        Card.now.launches["clone"] += 1
    wide = x.inner.float()
    out = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)
    return (out if weight is None else out * weight.inner.float()).to(x.dtype)


_SPECIAL = {
    "_scaled_dot_product_flash_attention": _flash,
    "_scaled_dot_product_flash_attention_backward": _flash_backward,
    "_flash_attention_forward": _flash_of_rows,
    "_fused_rms_norm": _rms_norm,
}
