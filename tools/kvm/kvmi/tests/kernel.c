// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel of the fake guest: its page tables, and what there is of its image.
 */
#include <stdlib.h>
#include <string.h>

#include "test.h"

#define TABLES_GPA	0x8000000ULL
#define TABLES_MAX	128
#define PRESENT		1ULL
#define WRITE		2ULL
#define LARGE		0x80ULL
#define NX		0x8000000000000000ULL

/* Bits that mean nothing here, with accessed and dirty set: global, software's, a key */
#define OTHER		(0x760ULL | 5ULL << 59)

#define OTHER_GPA	0x2000000ULL	/* of something else */

static struct {
	const struct fake_kernel *how;
	__u64 tables[TABLES_MAX][512];
	unsigned int nr;
	unsigned int root;
} guest;

static const struct {
	__u64 at;
	const char *text;
} texts[] = {
	{ KERNEL_RODATA_AT + 0x100, "Linux version %s (%s)" },
	{ KERNEL_RODATA_AT + 0x200, "Linux version 7.3.0-fake (x@y) # SMP\n" },
	/* Over two pages */
	{ KERNEL_RODATA_AT + 0x3ff8, "Linux version 7.3.0-fake (x@y) #1 SMP\n" },
	/* In data: not the one */
	{ KERNEL_DATA_AT + 0x10, "Linux version 6.6.6-data (x@y) #6 SMP\n" },
};

static __u64 table_gpa(unsigned int table)
{
	return TABLES_GPA + table * 4096ULL;
}

static unsigned int new_table(void)
{
	if (guest.nr == TABLES_MAX)
		exit(2);
	return guest.nr++;
}

/* One page; upper levels allow everything */
static void map_page(unsigned int root, __u64 gva, __u64 gpa, __u64 flags, bool large)
{
	int level, last = large ? 2 : 1;
	unsigned int table = root;
	__u64 *entry;

	for (level = guest.how->levels; ; level--) {
		entry = &guest.tables[table][gva >> (12 + 9 * (level - 1)) & 511];
		if (level == last)
			break;
		if (!*entry)
			*entry = table_gpa(new_table()) | PRESENT | WRITE | OTHER;
		table = ((*entry & 0xfffffffff000) - TABLES_GPA) / 4096;
	}
	*entry = gpa | PRESENT | OTHER | flags | (large ? LARGE : 0);
}

/* [@gva, @gva + @size), with large pages where they fit */
static void map(unsigned int root, __u64 gva, __u64 gpa, __u64 size, __u64 flags)
{
	while (size) {
		bool large = !guest.how->small && gva % 0x200000 == 0 && size >= 0x200000;
		__u64 n = large ? 0x200000 : 4096;

		map_page(root, gva, gpa, flags, large);
		gva += n;
		gpa += n;
		size -= n;
	}
}

static void map_image(unsigned int root, bool all)
{
	__u64 gva = FAKE_KERNEL + guest.how->slide, gpa = FAKE_KERNEL_GPA;

	map(root, gva, gpa, KERNEL_TEXT_END, guest.how->writable ? WRITE : 0);
	map(root, gva + KERNEL_TEXT_END, gpa + KERNEL_TEXT_END,
	    KERNEL_RODATA_AT - KERNEL_TEXT_END, NX);
	map(root, gva + KERNEL_RODATA_AT, gpa + KERNEL_RODATA_AT,
	    KERNEL_DATA_AT - KERNEL_RODATA_AT, NX);
	if (!all)
		return;
	map(root, gva + KERNEL_DATA_AT, gpa + KERNEL_DATA_AT, KERNEL_IDT - KERNEL_DATA_AT,
	    NX | WRITE);
	map(root, gva + KERNEL_IDT, gpa + KERNEL_IDT, 4096, NX);
	map(root, gva + KERNEL_IDT + 4096, gpa + KERNEL_IDT + 4096,
	    KERNEL_SIZE - KERNEL_IDT - 4096, NX | WRITE);
	/* Beside it, and none of it */
	map(root, gva + KERNEL_SIZE, OTHER_GPA, 0x3000, 0);
	map(root, gva + KERNEL_SIZE + 0x3000, OTHER_GPA + 0x3000, 0x2000, NX);
}

static void map_direct(void)
{
	__u64 base = guest.how->levels == 5 ? FAKE_DIRECT_5 : FAKE_DIRECT;
	__u64 gpa = FAKE_KERNEL_GPA, end = KERNEL_SIZE;
	__u64 constant = guest.how->aliased ? WRITE : 0;
	unsigned int root = guest.root;

	map(root, base, 0, gpa, NX | WRITE);
	base += gpa;
	map(root, base, gpa, KERNEL_TEXT_END, NX | constant);
	map(root, base + KERNEL_TEXT_END, gpa + KERNEL_TEXT_END,
	    KERNEL_RODATA_AT - KERNEL_TEXT_END, NX | WRITE);
	map(root, base + KERNEL_RODATA_AT, gpa + KERNEL_RODATA_AT,
	    KERNEL_RODATA_END - KERNEL_RODATA_AT, NX | constant);
	map(root, base + KERNEL_RODATA_END, gpa + KERNEL_RODATA_END,
	    KERNEL_IDT - KERNEL_RODATA_END, NX | WRITE);
	map(root, base + KERNEL_IDT, gpa + KERNEL_IDT, 4096, NX | constant);
	map(root, base + KERNEL_IDT + 4096, gpa + KERNEL_IDT + 4096, end - KERNEL_IDT - 4096,
	    NX | WRITE);
	/* Nor is this */
	map(root, base + KERNEL_SIZE, gpa + KERNEL_SIZE, 0x5000, NX | constant);
}

/* Each entry of a table has the same next one, and the last is empty. */
static void map_maze(void)
{
	unsigned int table = guest.root, next, i, entries = 256;
	int level;

	for (level = guest.how->levels; level > 1; level--) {
		next = new_table();
		for (i = 0; i < entries; i++)
			guest.tables[table][i] = table_gpa(next) | PRESENT | WRITE | OTHER;
		table = next;
		entries = 512;
	}
}

/* The two halves are beside each other, the kernel's is the even one. */
void kernel_build(const struct fake_kernel *how)
{
	unsigned int user;

	memset(&guest, 0, sizeof(guest));
	guest.how = how;
	if (!how)
		return;

	guest.root = new_table();
	user = new_table();
	if (how->odd_cr3) {
		guest.root = user;
		user = new_table();
	}
	map_image(guest.root, true);
	if (how->maze)
		map_maze();
	if (!how->no_direct)
		map_direct();
	/* As without PCID: text and read-only data are there, too. */
	map_image(user, false);
}

bool kernel_present(__u64 gpa)
{
	return guest.how && ((gpa >= FAKE_KERNEL_GPA && gpa <= FAKE_KERNEL_LAST) ||
			     (gpa >= TABLES_GPA && gpa < table_gpa(guest.nr)));
}

__u8 kernel_byte(__u64 gpa)
{
	__u64 at = gpa - FAKE_KERNEL_GPA;
	size_t i;

	if (gpa >= TABLES_GPA)
		return ((__u8 *)guest.tables)[gpa - TABLES_GPA];

	for (i = guest.how->no_banner ? 3 : 0; i < ARRAY_SIZE(texts); i++)
		if (at >= texts[i].at && at < texts[i].at + strlen(texts[i].text))
			return texts[i].text[at - texts[i].at];
	return 0;
}

void kernel_registers(const struct fake_kernel *how, unsigned int vcpu, struct kvm_sregs *sregs,
		      __u64 *lstar)
{
	/* The lower bits are a PCID. */
	sregs->cr3 = table_gpa(guest.root) | 5;
	sregs->cr4 |= how->levels == 5 ? 1 << 12 : 0;
	if (how->user_half) {
		sregs->cr3 += 4096;
		sregs->ss.dpl = 3;
	}
	if (how->mode)
		sregs->efer &= ~0x400ULL;
	*lstar = FAKE_KERNEL + how->slide + KERNEL_ENTRY;
	if (how->early & 1U << vcpu)
		*lstar = 0;
	if (how->elsewhere)
		*lstar = 0xffffffff00000000;
	if (how->unmapped)
		*lstar = 0xffffffffb0000000;
}

/* What is to be allowed to a page of the image */
__u8 kernel_access(const struct fake_kernel *how, __u64 gpa)
{
	__u64 at = gpa - FAKE_KERNEL_GPA;

	if (at < KERNEL_TEXT_END)
		return KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_X;
	if (at >= KERNEL_RODATA_AT && at < KERNEL_RODATA_END)
		return KVMI_PAGE_ACCESS_R;
	if (how->symbols && at >= KERNEL_DATA_AT && at < KERNEL_DATA_END)
		return KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W;
	if (!how->symbols && at == KERNEL_IDT)
		return KVMI_PAGE_ACCESS_R;
	return KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X;
}
