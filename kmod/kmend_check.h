/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The last check: is the code in memory, which is about to be redirected, the
 * code that was shipped? The builder has matched the shipped file; what
 * happened to it since, only the running kernel can tell.
 *
 * The kernel rewrites its own code: ftrace, alternatives, static keys and
 * calls, paravirt, retpolines, LOCK prefixes. These places are named by the
 * kernel's own tables, from which the builder took the sites below.
 */
#ifndef KMEND_CHECK_H
#define KMEND_CHECK_H

#include <linux/livepatch.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/types.h>
#include <linux/uaccess.h>

/* builder/kmend_builder/running/sites.py, How */
enum kmend_how {
	KMEND_SKIP,	/* rewritten depending on the machine */
	KMEND_MOVED,	/* holds an address in vmlinux */
	KMEND_INVERSE,	/* relative to the place, to what does not move */
	KMEND_VMLINUX,	/* relative to the place, in a module, to vmlinux */
};

struct kmend_site {
	u32 start;
	u16 size;
	u16 how;
};

/* One function as shipped; sites are in order and do not overlap. */
struct kmend_code {
	unsigned long address;	/* linked; 0 in a module */
	const u8 *bytes;
	const struct kmend_site *sites;
	u32 size;
	u32 count;
};

/* Where running code is another one, and what stands there. */
struct kmend_difference {
	u32 offset;
	u8 shipped;
	u8 running;
};

#define KMEND_CHUNK 64

/*
 * Whether @size bytes at @offset of the code at @running are @want. A site
 * that is being patched right now is never among them. Code that is not
 * mapped must end in a refusal, not in an oops.
 */
static bool kmend_holds(const u8 *want, const u8 *running, u32 offset, u32 size,
			struct kmend_difference *found)
{
	u8 have[KMEND_CHUNK];
	u32 done, part, i;

	for (done = 0; done < size; done += part) {
		part = min_t(u32, size - done, KMEND_CHUNK);
		found->offset = offset + done;
		found->shipped = want[done];
		found->running = 0;
		if (copy_from_kernel_nofault(have, running + offset + done, part))
			return false;
		for (i = 0; i < part; i++) {
			if (have[i] == want[done + i])
				continue;
			found->offset += i;
			found->shipped = want[done + i];
			found->running = have[i];
			return false;
		}
	}
	return true;
}

/* Whether an address field holds its address; vmlinux was moved by @moved. */
static bool kmend_site_holds(const struct kmend_code *code, const u8 *running,
			     const struct kmend_site *site, unsigned long moved,
			     struct kmend_difference *found)
{
	u64 want = 0;

	/* x86 is little-endian: a field of 4 bytes is the low half */
	memcpy(&want, code->bytes + site->start, min_t(size_t, site->size, sizeof(want)));
	switch (site->how) {
	case KMEND_SKIP:
		return true;
	case KMEND_MOVED:
		want += moved;
		break;
	case KMEND_INVERSE:
		want -= moved;
		break;
	case KMEND_VMLINUX:
		want += moved - (unsigned long)(running + site->start);
		break;
	default:
		return false;
	}
	return kmend_holds((const u8 *)&want, running, site->start, site->size, found);
}

static bool kmend_code_holds(const struct kmend_code *code, const u8 *running,
			     unsigned long moved, struct kmend_difference *found)
{
	u32 at = 0, i;

	for (i = 0; i < code->count; i++) {
		const struct kmend_site *site = &code->sites[i];

		if (!kmend_holds(code->bytes + at, running, at, site->start - at, found) ||
		    !kmend_site_holds(code, running, site, moved, found))
			return false;
		at = site->start + site->size;
	}
	return kmend_holds(code->bytes + at, running, at, code->size - at, found);
}

/*
 * @func has been resolved by the livepatch core. Its size there reaches up to
 * the next symbol, so a smaller one means that this is another function.
 */
static bool kmend_is_shipped(const struct klp_func *func, const char *object,
			     const struct kmend_code *code, unsigned long moved)
{
	const u8 *running = func->old_func;
	struct kmend_difference found = { };

	if (code->address && (unsigned long)running != code->address + moved) {
		pr_err("refused: %s:%s is not where it was shipped\n", object, func->old_name);
		return false;
	}
	if (func->old_size < code->size) {
		pr_err("refused: %s:%s is shorter than it was shipped\n", object, func->old_name);
		return false;
	}
	if (!kmend_code_holds(code, running, moved, &found)) {
		pr_err("refused: %s:%s is not the code that was shipped: %02x instead of %02x at +0x%x\n",
		       object, func->old_name, found.running, found.shipped, found.offset);
		return false;
	}
	return true;
}

#endif
