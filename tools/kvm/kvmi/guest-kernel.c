// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: find the Linux kernel of a guest, which has no part in that.
 *
 * LSTAR, an address in the kernel's text, is where the search begins. Linux maps
 * the image of its kernel with one offset between virtual and physical addresses,
 * and nothing else in this part of the address space has the same: it is what
 * the guest's page tables map with the offset of LSTAR's page.
 *
 * What is executable and not writable there is text, what is neither is
 * read-only data. But pages in between that Linux has freed after boot may look
 * like this too, as it does not split a large page of the image for them. It
 * uses them through its direct map of all memory. What is constant for good is
 * read-only there as well.
 *
 * Data and freed pages both are writable in both maps. To tell them apart it
 * takes symbols, which then say where all sections are.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest-kernel.h"
#include "search.h"

/* The image is somewhere in this GiB, KASLR or not. */
#define IMAGE_FIRST	0xffffffff80000000ULL
#define IMAGE_LAST	0xffffffffbfffffffULL

/* The direct map is the lowest of what Linux maps from here on, with 4 and 5 levels. */
#define DIRECT_FIRST	0xffff888000000000ULL
#define DIRECT_FIRST_5	0xff11000000000000ULL
#define DIRECT_LAST	0xfffffdffffffffffULL
#define DIRECT_ALIGN	0x40000000

/* What KASLR moves the kernel by is a multiple. */
#define SLIDE_ALIGN	0x200000

#define CR4_LA57	0x1000
#define EFER_LMA	0x400

/* With page table isolation the half of user space has this bit in CR3. */
#define CR3_USER_HALF	0x1000ULL

#define MSR_LSTAR	0xc0000082
#define PAGE		KVMI_GUEST_PAGE

#define BANNER		"Linux version "
#define CHUNK		(256 * 1024)

/* What comes in the way, by how far the search has got */
enum obstacle {
	NO_VCPU,
	NO_64_BIT,
	NO_LSTAR,
	NOT_THERE,
	NOT_MAPPED,
	NOT_PROTECTED,
	NO_DIRECT_MAP,
	NO_BANNER,
	OTHER_SYMBOLS,
	OTHER_BANNER,
	FOUND,
};

static const char * const obstacles[] = {
	[NO_VCPU] = "no vCPU runs",
	[NO_64_BIT] = "no vCPU is in 64-bit mode",
	[NO_LSTAR] = "it has not set LSTAR, the entry of system calls",
	[NOT_THERE] = "system calls do not enter where Linux has its kernel",
	[NOT_MAPPED] = "the page tables do not map the entry of system calls",
	[NOT_PROTECTED] =
		"it has not made its own text read-only: it is still booting, or was told not to (rodata=off). With --symbols it is protected nevertheless",
	[NO_DIRECT_MAP] = "its direct map of memory was not found. It takes --symbols",
	[NO_BANNER] = "what was found does not have the words 'Linux version'",
	[OTHER_SYMBOLS] =
		"the symbols are those of another kernel: entry_SYSCALL_64 is not where LSTAR is",
	[OTHER_BANNER] =
		"the symbols are those of another kernel: it has no linux_banner where they say",
};

/* Adjacent mappings in the image that allow the same */
struct run {
	__u64 gva;
	__u64 size;
	bool write;
	bool exec;
};

/**
 * struct finder - a search
 * @tool: the run of the command
 * @symbols: of the kernel, empty: none
 * @kernel: the result
 * @sregs: of the vCPU, with the page tables to look at
 * @entry: the mapping that LSTAR is in
 * @runs: the image
 * @nr_runs: how many
 * @direct: from guest physical addresses to those of the direct map
 * @has_direct: it was found
 * @section: of what is being added
 */
struct finder {
	struct tool *tool;
	struct symbols *symbols;
	struct guest_kernel *kernel;
	struct kvm_sregs sregs;
	struct kvmi_mapping entry;
	struct run *runs;
	size_t nr_runs;
	__u64 direct;
	bool has_direct;
	enum kernel_section section;
};

const char *section_name(enum kernel_section section)
{
	static const char * const names[] = { "text", "rodata", "data" };

	return names[section];
}

static int take_first(void *arg, const struct kvmi_mapping *mapping)
{
	*(struct kvmi_mapping *)arg = *mapping;
	return 1;
}

static void *last(void *list, size_t nr, size_t size)
{
	return nr ? (char *)list + (nr - 1) * size : NULL;
}

/* Room for another element? @list has room for powers of two. */
static void *make_room(void *list, size_t nr, size_t size)
{
	return nr & (nr - 1) ? list : realloc(list, (nr ? 2 * nr : 1) * size);
}

static int take_run(void *arg, const struct kvmi_mapping *mapping)
{
	struct finder *finder = arg;
	struct run *run = last(finder->runs, finder->nr_runs, sizeof(*run)), *runs;

	if (mapping->gva - mapping->gpa != finder->kernel->offset)
		return 0;
	if (run && run->gva + run->size == mapping->gva &&
	    run->write == mapping->write && run->exec == mapping->exec) {
		run->size += mapping->size;
		return 0;
	}

	runs = make_room(finder->runs, finder->nr_runs, sizeof(*runs));
	if (!runs)
		return -ENOMEM;
	finder->runs = runs;
	runs[finder->nr_runs++] = (struct run){
		.gva = mapping->gva, .size = mapping->size,
		.write = mapping->write, .exec = mapping->exec,
	};
	return 0;
}

/* @gva is in the image. Returns 0 or -ENOMEM. */
static int add_range(struct finder *finder, __u64 gva, __u64 size)
{
	struct guest_kernel *kernel = finder->kernel;
	struct kernel_range *range = last(kernel->ranges, kernel->nr, sizeof(*range));

	if (range && range->section == finder->section && range->gva + range->size == gva) {
		range->size += size;
		return 0;
	}

	range = make_room(kernel->ranges, kernel->nr, sizeof(*range));
	if (!range)
		return -ENOMEM;
	kernel->ranges = range;
	range[kernel->nr++] = (struct kernel_range){
		.section = finder->section, .gva = gva, .gpa = gva - kernel->offset, .size = size,
	};
	return 0;
}

/* What is read-only in the direct map too */
static int take_constant(void *arg, const struct kvmi_mapping *mapping)
{
	struct finder *finder = arg;

	if (mapping->write || mapping->gva - mapping->gpa != finder->direct)
		return 0;
	return add_range(finder, mapping->gpa + finder->kernel->offset, mapping->size);
}

/* Returns 1, 0: there is none, or a negative errno */
static int find_direct_map(struct finder *finder)
{
	__u64 first = finder->sregs.cr4 & CR4_LA57 ? DIRECT_FIRST_5 : DIRECT_FIRST;
	struct kvmi_mapping mapping = { 0 };
	int r;

	r = kvmi_walk(finder->tool->conn, &finder->sregs, first, DIRECT_LAST, take_first,
		      &mapping);
	finder->direct = mapping.gva - mapping.gpa;
	if (r > 0 && finder->direct % DIRECT_ALIGN)
		return 0;
	return r;
}

/* Without symbols: by what the page tables allow */
static int classify(struct finder *finder)
{
	const __u64 offset = finder->kernel->offset;
	int section, r;
	size_t i;

	r = find_direct_map(finder);
	finder->has_direct = r > 0;
	if (r <= 0)
		return r;

	for (section = KERNEL_TEXT; section <= KERNEL_RODATA; section++) {
		const bool text = section == KERNEL_TEXT;

		finder->section = section;
		for (i = 0; i < finder->nr_runs; i++) {
			const struct run *run = &finder->runs[i];
			__u64 alias = run->gva - offset + finder->direct;

			if (run->write || run->exec != text)
				continue;
			r = kvmi_walk(finder->tool->conn, &finder->sregs, alias,
				      alias + run->size - 1, take_constant, finder);
			if (r)
				return r;
		}
	}
	return 0;
}

static const struct {
	const char *first;
	const char *end;
} bounds[KERNEL_SECTIONS] = {
	[KERNEL_TEXT] = { "_text", "_etext" },
	[KERNEL_RODATA] = { "__start_rodata", "__end_rodata" },
	[KERNEL_DATA] = { "_sdata", "_edata" },
};

/* What symbols say, as far as it is mapped; what is behind a section in its page is padding. */
static int classify_by_symbols(struct finder *finder)
{
	__u64 first = 0, end = 0;
	int section, r = 0;
	size_t i;

	for (section = 0; section < KERNEL_SECTIONS; section++) {
		symbols_find(finder->symbols, bounds[section].first, &first);
		symbols_find(finder->symbols, bounds[section].end, &end);
		first = first / PAGE * PAGE;
		end = (end + PAGE - 1) / PAGE * PAGE;
		finder->section = section;
		for (i = 0; i < finder->nr_runs && !r; i++) {
			const struct run *run = &finder->runs[i];
			__u64 from = run->gva > first ? run->gva : first;
			__u64 to = run->gva + run->size < end ? run->gva + run->size : end;

			if (from < to)
				r = add_range(finder, from, to - from);
		}
	}
	return r;
}

/* "Linux version 7.3.0 ...", without the end of the line; false: it is none */
static bool read_banner(struct finder *finder, __u64 gpa, char text[VERSION_MAX])
{
	bool present[2];
	size_t i;

	if (kvmi_read_memory(finder->tool->conn, gpa, text, VERSION_MAX - 1, present))
		return false;
	for (i = 0; i < VERSION_MAX - 1 && text[i] >= 0x20 && text[i] <= 0x7e; i++)
		;
	text[i] = '\0';

	return !strncmp(text, BANNER, strlen(BANNER)) &&
	       isdigit((unsigned char)text[strlen(BANNER)]);
}

/*
 * There are formats that begin like one, and one with which the kernel was linked
 * before its number was known: what has that ends the search.
 */
static bool found(void *arg, __u64 gpa)
{
	struct finder *finder = arg;
	char text[VERSION_MAX], *number;

	if (!read_banner(finder, gpa, text))
		return false;
	number = strstr(text, " #");
	number = number && isdigit((unsigned char)number[2]) ? number : NULL;
	if (number || !*finder->kernel->version)
		strcpy(finder->kernel->version, text);

	return number;
}

/* Returns 1, 0: it is not there, or a negative errno */
static int find_banner(struct finder *finder)
{
	struct search search = {
		.needle = (const __u8 *)BANNER, .len = strlen(BANNER),
		.found = found, .arg = finder,
	};
	bool present[CHUNK / PAGE];
	static __u8 buf[CHUNK];
	size_t i;
	int r;

	*finder->kernel->version = '\0';
	for (i = 0; i < finder->kernel->nr; i++) {
		const struct kernel_range *range = &finder->kernel->ranges[i];
		__u64 at, n;

		if (range->section != KERNEL_RODATA)
			continue;
		for (at = 0; at < range->size; at += n) {
			n = range->size - at < CHUNK ? range->size - at : CHUNK;
			r = kvmi_read_memory(finder->tool->conn, range->gpa + at, buf, n, present);
			if (r)
				return r;
			if (search_more(&search, range->gpa + at, buf, n))
				return 1;
		}
	}
	return *finder->kernel->version != '\0';
}

/* Is the entry of system calls in what was found? */
static bool has_entry(const struct guest_kernel *kernel)
{
	const struct kernel_range *range;
	size_t i;

	for (i = 0; i < kernel->nr; i++) {
		range = &kernel->ranges[i];
		if (range->section == KERNEL_TEXT && kernel->lstar - range->gva < range->size)
			return true;
	}
	return false;
}

static int add_ranges(struct finder *finder)
{
	return finder->symbols->nr ? classify_by_symbols(finder) : classify(finder);
}

/* The image by the page tables in finder->sregs: enum obstacle, or a negative errno */
static int look(struct finder *finder)
{
	struct kvmi_conn *conn = finder->tool->conn;
	struct guest_kernel *kernel = finder->kernel;
	__u64 address;
	int r;

	free_guest_kernel(kernel);
	finder->nr_runs = 0;
	r = kvmi_walk(conn, &finder->sregs, kernel->lstar, kernel->lstar, take_first,
		      &finder->entry);
	if (r <= 0)
		return r ?: NOT_MAPPED;
	if (!finder->entry.exec)
		return NOT_MAPPED;
	if (finder->entry.write && !finder->symbols->nr)
		return NOT_PROTECTED;

	kernel->cr3 = finder->sregs.cr3;
	kernel->offset = finder->entry.gva - finder->entry.gpa;
	r = kvmi_walk(conn, &finder->sregs, IMAGE_FIRST, IMAGE_LAST, take_run, finder);
	if (!r)
		r = add_ranges(finder);
	if (r)
		return r;
	if (!finder->symbols->nr && !finder->has_direct)
		return NO_DIRECT_MAP;
	if (!has_entry(kernel))
		return finder->symbols->nr ? OTHER_SYMBOLS : NOT_PROTECTED;

	if (symbols_find(finder->symbols, "linux_banner", &address))
		return read_banner(finder, address - kernel->offset, kernel->version) ?
		       FOUND : OTHER_BANNER;
	r = find_banner(finder);
	if (r < 0)
		return r;
	return r ? FOUND : NO_BANNER;
}

/* Where KASLR has put it. Returns false if that makes no sense. */
static bool find_slide(struct finder *finder)
{
	struct symbols *symbols = finder->symbols;
	__u64 entry;

	if (!symbols->nr)
		return true;
	symbols->slide = 0;
	symbols_find(symbols, "entry_SYSCALL_64", &entry);
	symbols->slide = finder->kernel->lstar - entry;

	return symbols->slide % SLIDE_ALIGN == 0;
}

/* The same for a vCPU */
static int look_at_vcpu(struct finder *finder, unsigned int vcpu)
{
	struct kvm_msr_entry lstar = { .index = MSR_LSTAR };
	struct kvmi_vcpu_event_arch state;
	__u64 cr3;
	int r;

	r = kvmi_get_registers(finder->tool->conn, vcpu, &state, &lstar, 1);
	if (r == -EAGAIN || r == -ETIMEDOUT)
		return NO_VCPU;
	if (r)
		return r;
	if (!(state.sregs.efer & EFER_LMA))
		return NO_64_BIT;
	if (!lstar.data)
		return NO_LSTAR;
	if (lstar.data < IMAGE_FIRST || lstar.data > IMAGE_LAST)
		return NOT_THERE;
	finder->kernel->lstar = lstar.data;
	if (!find_slide(finder))
		return OTHER_SYMBOLS;

	/*
	 * The half of user space lacks most of the kernel. Without page table
	 * isolation the bit means nothing: what is there is no table, or one that
	 * has the kernel too.
	 */
	cr3 = state.sregs.cr3;
	finder->sregs = state.sregs;
	finder->sregs.cr3 = cr3 & ~CR3_USER_HALF;
	r = look(finder);
	if (r == FOUND || r < 0 || !(cr3 & CR3_USER_HALF))
		return r;
	finder->sregs.cr3 = cr3;
	return look(finder);
}

/* Those that this takes */
static int check_symbols(struct tool *tool, const struct symbols *symbols)
{
	const char *missing = NULL;
	__u64 address;
	size_t i;

	for (i = 0; i < KERNEL_SECTIONS; i++) {
		if (!symbols_find(symbols, bounds[i].first, &address))
			missing = bounds[i].first;
		if (!symbols_find(symbols, bounds[i].end, &address))
			missing = bounds[i].end;
	}
	if (!symbols_find(symbols, "entry_SYSCALL_64", &address))
		missing = "entry_SYSCALL_64";
	if (missing)
		return fail(tool, STATUS_USAGE, "%s has no symbol %s", tool->symbols, missing);
	return 0;
}

/*
 * The VM is paused. Symbols that are there are used, and moved to where KASLR has
 * put the kernel. 0, or the exit code after having said why
 */
int find_guest_kernel(struct tool *tool, struct symbols *symbols, struct guest_kernel *kernel)
{
	struct finder finder = { .tool = tool, .symbols = symbols, .kernel = kernel };
	unsigned int vcpu, vcpus = 0;
	int best = NO_VCPU, r = 0;

	if (symbols->nr)
		r = check_symbols(tool, symbols);
	if (r)
		return r;
	if (kvmi_get_vcpu_count(tool->conn, &vcpus))
		return fail_conn(tool);

	for (vcpu = 0; vcpu < vcpus && best != FOUND && r >= 0; vcpu++) {
		if (!kvmi_is_paused(tool->conn, vcpu))
			continue;
		r = look_at_vcpu(&finder, vcpu);
		if (r > best)
			best = r;
	}
	free(finder.runs);

	if (r == -ENOMEM)
		return fail(tool, STATUS_FAILED, "out of memory");
	if (r < 0)
		return fail_conn(tool);
	if (best != FOUND)
		return fail(tool, STATUS_NOTHING, "the guest's Linux kernel was not found: %s",
			    obstacles[best]);
	return 0;
}

void free_guest_kernel(struct guest_kernel *kernel)
{
	free(kernel->ranges);
	kernel->ranges = NULL;
	kernel->nr = 0;
}
