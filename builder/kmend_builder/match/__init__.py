# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage 5, run-pre matching: proof that an orig object is the code that was shipped.

Arnold and Kaashoek, "Ksplice" (EuroSys 2009), section 4.2, moved from the running kernel to the shipped files:
nothing
is rewritten there yet, so a byte either belongs to a relocation or must be equal. Reading a relocation's value
backwards
gives the address of what it refers to; every symbol is cross-checked as often as it is used.
"""
