// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: the page tables of a guest in 64-bit mode, read from its memory.
 */
#include <errno.h>

#include "internal.h"

#define CR4_LA57	0x1000
#define EFER_LMA	0x400
#define EFER_NXE	0x800

#define PTE_PRESENT	0x1
#define PTE_WRITE	0x2
#define PTE_LARGE	0x80
#define PTE_NX		0x8000000000000000ULL
#define PTE_ADDRESS	0x000ffffffffff000ULL

#define ENTRIES		512

/* 32 GiB in small pages; tables that point to each other would take for ever. */
#define MAX_TABLES	16384

/**
 * struct walk - a walk under way
 * @conn: the connection
 * @nx: there is execute-disable
 * @tables: how many were read
 * @from: where it begins
 * @last: the last byte
 * @visit: called for each mapping
 * @arg: for @visit
 */
struct walk {
	struct kvmi_conn *conn;
	bool nx;
	unsigned int tables;
	__u64 from;
	__u64 last;
	int (*visit)(void *arg, const struct kvmi_mapping *mapping);
	void *arg;
};

/* Only what lies in the range that was asked for */
static int visit(struct walk *walk, __u64 gva, __u64 end, __u64 gpa, bool write, bool exec)
{
	struct kvmi_mapping mapping = { .write = write, .exec = exec };
	__u64 first = gva > walk->from ? gva : walk->from;
	__u64 last = end < walk->last ? end : walk->last;

	mapping.gva = first;
	mapping.gpa = gpa + (first - gva);
	mapping.size = last - first + 1;

	return walk->visit(walk->arg, &mapping);
}

/* @base is the first address that the table is for, @write and @exec what it allows. */
static int walk_table(struct walk *walk, __u64 table, int level, __u64 base, bool write,
		      bool exec)
{
	unsigned int i, shift = 12 + 9 * (level - 1);
	__u64 entries[ENTRIES];
	int r;

	if (++walk->tables > MAX_TABLES)
		return kvmi_fail(walk->conn, E2BIG, KVMI_FAILURE_OTHER,
				 "more than %u page tables", MAX_TABLES);

	r = kvmi_read_physical(walk->conn, table, entries, sizeof(entries));
	/* The guest may have any rubbish in its tables. */
	if (r == -ENOENT)
		return 0;

	for (i = 0; i < ENTRIES && !r; i++) {
		__u64 gva = base + ((__u64)i << shift), end = gva + (1ULL << shift) - 1;
		bool w = write && entries[i] & PTE_WRITE;
		bool x = exec && !(walk->nx && entries[i] & PTE_NX);
		__u64 gpa = entries[i] & PTE_ADDRESS;

		if (end < walk->from || gva > walk->last || !(entries[i] & PTE_PRESENT))
			continue;
		if (level == 1)
			r = visit(walk, gva, end, gpa, w, x);
		else if (!(entries[i] & PTE_LARGE))
			r = walk_table(walk, gpa, level - 1, gva, w, x);
		else if (level <= 3)
			r = visit(walk, gva, end, gpa >> shift << shift, w, x);
	}

	return r;
}

/**
 * kvmi_walk - go through the mappings of a range of virtual addresses
 * @conn: the connection
 * @sregs: control registers and EFER of a vCPU in 64-bit mode; those of another
 *	   address space of it have another @sregs->cr3
 * @from: where the range begins, a canonical address
 * @last: its last byte, in the same half of the address space
 * @visit: called for each page, of whatever size, in ascending order; what it
 *	   returns ends the walk unless it is 0
 * @arg: for @visit
 *
 * The guest may change its tables meanwhile, unless it is paused.
 *
 * Return: 0, what @visit returned, -EINVAL: the vCPU is not in 64-bit mode,
 * -E2BIG: there are more than 16384 page tables for the range, or another
 * negative errno
 */
int kvmi_walk(struct kvmi_conn *conn, const struct kvm_sregs *sregs, __u64 from, __u64 last,
	      int (*visit)(void *arg, const struct kvmi_mapping *mapping), void *arg)
{
	int levels = sregs->cr4 & CR4_LA57 ? 5 : 4;
	/* Those of the upper half begin with ones. */
	__u64 half = 1ULL << (12 + 9 * levels - 1);
	__u64 base = from & half ? -2 * half : 0;
	struct walk walk = {
		.conn = conn, .nx = sregs->efer & EFER_NXE, .from = from, .last = last,
		.visit = visit, .arg = arg,
	};

	if (!(sregs->efer & EFER_LMA))
		return kvmi_fail(conn, EINVAL, KVMI_FAILURE_OTHER, "not in 64-bit mode");

	return walk_table(&walk, sregs->cr3 & PTE_ADDRESS, levels, base, true, true);
}
