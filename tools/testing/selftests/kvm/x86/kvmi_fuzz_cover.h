/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fuzzing KVM introspection: which code of the kernel was executed, by KCOV.
 *
 * KCOV sees what a thread of this process does in system calls. Commands are carried out by
 * the thread that reads the socket: KVM's own, unless a vCPU waits for a reply.
 */
#ifndef KVMI_FUZZ_COVER_H
#define KVMI_FUZZ_COVER_H

#include <fcntl.h>
#include <linux/kcov.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "test_util.h"

#define COVER_PCS	BIT(16)		/* of a thread, between two looks at them */
#define COVER_SET	BIT(15)

/* Of a thread. */
struct cover {
	int fd;
	unsigned long *area;	/* NULL without KCOV */
};

static inline void cover_open(struct cover *cover)
{
	cover->area = NULL;
	cover->fd = open("/sys/kernel/debug/kcov", O_RDWR);
	if (cover->fd < 0)
		return;
	TEST_ASSERT(!ioctl(cover->fd, KCOV_INIT_TRACE, COVER_PCS), "KCOV_INIT_TRACE");
	cover->area = mmap(NULL, COVER_PCS * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED,
			   cover->fd, 0);
	TEST_ASSERT(cover->area != MAP_FAILED, "mmap of KCOV");
}

/* By the thread itself. */
static inline void cover_enable(struct cover *cover)
{
	if (cover->area)
		TEST_ASSERT(!ioctl(cover->fd, KCOV_ENABLE, KCOV_TRACE_PC), "KCOV_ENABLE");
}

static inline void cover_disable(struct cover *cover)
{
	if (cover->area)
		TEST_ASSERT(!ioctl(cover->fd, KCOV_DISABLE, 0), "KCOV_DISABLE");
}

static inline void cover_close(struct cover *cover)
{
	if (!cover->area)
		return;
	munmap(cover->area, COVER_PCS * sizeof(long));
	close(cover->fd);
}

/* A set of PCs; those of a kernel are few. */
struct cover_set {
	u32 nr;
	unsigned long pcs[COVER_SET];
};

static inline struct cover_set *cover_new_set(void)
{
	struct cover_set *set = calloc(1, sizeof(*set));

	TEST_ASSERT(set, "No memory");
	return set;
}

/* Returns false if it is there already. */
static inline bool cover_add(struct cover_set *set, unsigned long pc)
{
	u32 i = (pc ^ pc >> 16) % COVER_SET;

	while (set->pcs[i] && set->pcs[i] != pc)
		i = (i + 1) % COVER_SET;
	if (set->pcs[i])
		return false;
	TEST_ASSERT(set->nr < COVER_SET / 2, "Too many PCs");
	set->pcs[i] = pc;
	set->nr++;
	return true;
}

/* Moves what a thread has executed into a set; returns how much is new there. */
static inline u32 cover_collect(struct cover *cover, struct cover_set *set)
{
	unsigned long i, n;
	u32 new = 0;

	if (!cover->area)
		return 0;
	n = __atomic_load_n(&cover->area[0], __ATOMIC_RELAXED);
	for (i = 1; i <= n && i < COVER_PCS; i++)
		new += cover_add(set, READ_ONCE(cover->area[i]));
	__atomic_store_n(&cover->area[0], 0, __ATOMIC_RELAXED);

	return new;
}

/* Adds one set to another; returns how much is new there. */
static inline u32 cover_merge(struct cover_set *to, const struct cover_set *from)
{
	u32 i, new = 0;

	for (i = 0; i < COVER_SET; i++) {
		if (from->pcs[i])
			new += cover_add(to, from->pcs[i]);
	}

	return new;
}

#endif
