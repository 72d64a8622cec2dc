// SPDX-License-Identifier: GPL-2.0
/*
 * The map of restricted pages: gfn -> KVM_GFN_ACCESS_*.
 *
 * It has blocks of the size of a huge page, so that pages in a row are looked up
 * and changed together, and what decides about the size of a mapping looks at one
 * block only. A block takes 256 bytes, which is half a byte a page if all of them
 * are restricted. Blocks are added before pages in them are restricted, and stay
 * until introspection ends: a tool restricts the same page again and again.
 *
 * Blocks are changed with mmu_lock held for writing, added and freed by who
 * serializes changes of the map. It is read without a lock.
 */
#include <linux/kvm_host.h>
#include <linux/slab.h>

#include "mmu.h"

#include "gfn_access_map.h"

void kvm_gfn_map_init(struct kvm_gfn_access_map *map)
{
	xa_init_flags(&map->blocks, XA_FLAGS_ACCOUNT);
}

/**
 * kvm_gfn_map_add_block - make room for restricting a page
 * @map: the map; the caller serializes changes
 * @gfn: the page, and others of its block
 *
 * May sleep.
 *
 * Return: 0 or -ENOMEM
 */
int kvm_gfn_map_add_block(struct kvm_gfn_access_map *map, gfn_t gfn)
{
	struct kvm_gfn_block *block;
	int r;

	if (kvm_gfn_map_block(map, gfn))
		return 0;

	block = kzalloc_obj(*block, GFP_KERNEL_ACCOUNT);
	if (!block)
		return -ENOMEM;

	r = xa_err(xa_store(&map->blocks, kvm_gfn_block_index(gfn), block,
			    GFP_KERNEL_ACCOUNT));
	if (r)
		kfree(block);

	return r;
}

/* What the guest may do with a page, without any exception. */
unsigned int kvm_gfn_map_access(struct kvm_gfn_access_map *map, gfn_t gfn)
{
	const struct kvm_gfn_block *block;

	guard(rcu)();

	block = kvm_gfn_map_block(map, gfn);

	return block ? kvm_gfn_block_access(block, gfn) : KVM_GFN_ACCESS_ALL;
}

static bool kvm_gfn_block_is_restricted(const struct kvm_gfn_block *block,
					gfn_t start, gfn_t end)
{
	gfn_t gfn;

	if (end - start == KVM_GFN_BLOCK_PAGES)
		return !kvm_gfn_block_is_empty(block);

	for (gfn = start; gfn < end; gfn++) {
		if (kvm_gfn_block_access(block, gfn) != KVM_GFN_ACCESS_ALL)
			return true;
	}

	return false;
}

/* Is one of the pages restricted? */
bool kvm_gfn_map_is_restricted(struct kvm_gfn_access_map *map, gfn_t gfn, u64 nr)
{
	const struct kvm_gfn_block *block;
	gfn_t end = gfn + nr, first;
	unsigned long index;

	guard(rcu)();

	if (kvm_gfn_block_index(gfn) == kvm_gfn_block_index(end - 1)) {
		block = kvm_gfn_map_block(map, gfn);
		return block && kvm_gfn_block_is_restricted(block, gfn, end);
	}

	xa_for_each_range(&map->blocks, index, block, kvm_gfn_block_index(gfn),
			  kvm_gfn_block_index(end - 1)) {
		first = (gfn_t)index * KVM_GFN_BLOCK_PAGES;
		if (kvm_gfn_block_is_restricted(block, max(gfn, first),
						min(end, first + KVM_GFN_BLOCK_PAGES)))
			return true;
	}

	return false;
}

/* The caller serializes changes; nothing is restricted any more. */
void kvm_gfn_map_free(struct kvm_gfn_access_map *map)
{
	struct kvm_gfn_block *block;
	unsigned long index;

	xa_for_each(&map->blocks, index, block) {
		xa_erase(&map->blocks, index);
		/* It may be being looked at. */
		kfree_rcu_mightsleep(block);
	}
	xa_destroy(&map->blocks);
}
