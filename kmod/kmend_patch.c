// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Glue of a kmend live patch: the tables for the kernel's livepatch API and
 * nothing else. kmend_tables.h is written by the builder (stage 7-module).
 *
 * The patch replaces all earlier kmend patches in one transition. The agent
 * has compared the build-ids of the kernel and of every module named here
 * before this module is loaded; the kernel itself matches modules by name only.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "kmend_tables.h"

static struct klp_patch kmend_patch = {
	.mod = THIS_MODULE,
	.objs = kmend_objects,
	.replace = true,
};

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
