#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-98075
# kmend-object: vmlinux
# kmend-before: E2BIG, the call stack of 8 frames is too deep*
# kmend-after: EINVAL, callback function cannot be the main program
"""Is a BPF program refused at once that takes the address of its own main program as a callback? Needs CAP_BPF."""

from ebpf import instruction, load_filter, load_static_function_btf
from probing import outcome

_LD_IMM64, _MOV64_K, _EXIT = 0x18, 0xB7, 0x95
_PSEUDO_FUNC = 4

btf = load_static_function_btf()
if btf < 0:
    raise SystemExit(f"BTF is refused: {outcome(btf)}")
# r1 = address of the function at instruction 0: relative to the next instruction
code = instruction(_LD_IMM64, 1, _PSEUDO_FUNC, 0, -1) + instruction(0)
code += instruction(_MOV64_K) + instruction(_EXIT)
answer, log = load_filter(code, btf, 3)
said = [line for line in log.splitlines() if "main program" in line or "too deep" in line]
print(f"{outcome(answer)}, {said[0].strip() if said else log.strip()[-100:]}")
