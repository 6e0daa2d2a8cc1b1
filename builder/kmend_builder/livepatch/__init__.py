# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage 7: from differing objects to one loadable live patch.

select.py    what of the patched objects goes into the module
sections.py  where a piece goes, and which can't go anywhere; callers.py: what to redirect for one without an entry
keys.py      static keys of modules; keytests.py makes code read them, keyproof.py checks that
resolve.py   what each reference of it becomes: inside the module, an export, or a livepatch symbol
assemble.py  the chosen pieces as one relocatable object, with their table entries (tables.py)
glue.py      the tables for kmod/, with the code of the running kernel it expects (kmend_builder.running)
link.py      that object and the glue of kmod/ through Kbuild; postlink.py turns livepatch symbols into klp relocations
"""
