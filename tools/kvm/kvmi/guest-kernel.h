/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kvmi: where a guest has its Linux kernel.
 */
#ifndef KVMI_GUEST_KERNEL_H
#define KVMI_GUEST_KERNEL_H

#include "symbols.h"

#define VERSION_MAX	256

enum kernel_section {
	KERNEL_TEXT,
	KERNEL_RODATA,
	KERNEL_DATA,
	KERNEL_SECTIONS
};

/**
 * struct kernel_range - whole pages of the kernel, adjacent ones
 * @section: what they have
 * @gva: where they are in the kernel's image
 * @gpa: where they are in guest memory
 * @size: bytes
 */
struct kernel_range {
	enum kernel_section section;
	__u64 gva;
	__u64 gpa;
	__u64 size;
};

/**
 * struct guest_kernel - a kernel that was found
 * @lstar: entry of its system calls
 * @cr3: page tables that have it
 * @offset: from guest physical addresses to those of the image
 * @ranges: what it consists of, by section and address
 * @nr: how many
 * @version: how it introduces itself
 */
struct guest_kernel {
	__u64 lstar;
	__u64 cr3;
	__u64 offset;
	struct kernel_range *ranges;
	size_t nr;
	char version[VERSION_MAX];
};

const char *section_name(enum kernel_section section);
int find_guest_kernel(struct tool *tool, struct symbols *symbols, struct guest_kernel *kernel);
void free_guest_kernel(struct guest_kernel *kernel);

#endif
