// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Glue of a kmend live patch: the tables for the kernel's livepatch API, and
 * the check that what they redirect is what was shipped (kmend_check.h).
 * kmend_tables.h is written by the builder (stage 7-module).
 *
 * The patch replaces all earlier kmend patches in one transition. The agent
 * has compared the build-ids of the kernel and of every module named here
 * before this module is loaded; the kernel itself matches modules by name only.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "kmend_check.h"

static int kmend_pre_patch(struct klp_object *object);

#include "kmend_tables.h"

static struct klp_patch kmend_patch = {
	.mod = THIS_MODULE,
	.objs = kmend_objects,
	.replace = true,
};

/*
 * Called for an object once its functions are found and before any of them is
 * redirected (Documentation/livepatch/callbacks.rst): for objects that are
 * there when the patch is enabled, where a refusal leaves the kernel as it is,
 * and for a module that comes later, which then can't be loaded: the livepatch
 * core has no way to load it unpatched. The agent knows the error by EILSEQ.
 */
static int kmend_pre_patch(struct klp_object *object)
{
	/* an address in vmlinux that needs no lookup tells how far it was moved */
	unsigned long moved = (unsigned long)klp_enable_patch - KMEND_ANCHOR;
	const struct kmend_code *code = kmend_codes[object - kmend_objects];
	const char *name = object->name ? object->name : "vmlinux";
	const struct klp_func *func;
	bool shipped = true;

	/* all of them, so that the log has the whole extent */
	for (func = object->funcs; func->old_name; func++, code++)
		shipped &= kmend_is_shipped(func, name, code, moved);
	if (shipped)
		return 0;
	pr_err("%s was changed after it was shipped: a probe, another tool, another build?\n",
	       name);
	return -EILSEQ;
}

static int __init kmend_init(void)
{
#ifdef KMEND_PINNED
	/*
	 * The kernel may keep pointers to functions that exist only here, in
	 * timers or work items: this module's text must never go away.
	 */
	__module_get(THIS_MODULE);
#endif
	return klp_enable_patch(&kmend_patch);
}

static void __exit kmend_exit(void)
{
}

module_init(kmend_init);
module_exit(kmend_exit);
MODULE_DESCRIPTION("kmend live patch");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_INFO(kmend_build_id, KMEND_BUILD_ID);
#ifdef KMEND_PINNED
MODULE_INFO(kmend_pinned, "Y");
#endif
