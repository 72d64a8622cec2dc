/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The map of restricted pages. See gfn_access_map.c.
 */
#ifndef __KVM_X86_MMU_GFN_ACCESS_MAP_H
#define __KVM_X86_MMU_GFN_ACCESS_MAP_H

#include <linux/kvm_host.h>

#include "gfn_access.h"

/* Pages of a block: those that one huge page can map. */
#define KVM_GFN_BLOCK_PAGES	KVM_PAGES_PER_HPAGE(PG_LEVEL_2M)
#define KVM_GFN_BLOCK_BYTES	(KVM_GFN_BLOCK_PAGES / 2)

/**
 * struct kvm_gfn_block - what is denied in the pages of a block
 * @denied: KVM_GFN_ACCESS_* that are not allowed, four bits a page, the first page
 *	    of two in the lower ones. All 0 if nothing is restricted
 */
struct kvm_gfn_block {
	u8 denied[KVM_GFN_BLOCK_BYTES];
};

static inline unsigned long kvm_gfn_block_index(gfn_t gfn)
{
	return gfn / KVM_GFN_BLOCK_PAGES;
}

/* KVM_GFN_ACCESS_* that are allowed; may be called without a lock. */
static inline unsigned int kvm_gfn_block_access(const struct kvm_gfn_block *block,
						gfn_t gfn)
{
	unsigned int page = gfn % KVM_GFN_BLOCK_PAGES;
	u8 denied = READ_ONCE(block->denied[page / 2]);

	return ~(denied >> 4 * (page % 2)) & KVM_GFN_ACCESS_ALL;
}

/* @difference: KVM_GFN_ACCESS_* that were allowed and are not any more, or the reverse */
static inline void kvm_gfn_block_change(struct kvm_gfn_block *block, gfn_t gfn,
					unsigned int difference)
{
	unsigned int page = gfn % KVM_GFN_BLOCK_PAGES;
	u8 denied = block->denied[page / 2] ^ difference << 4 * (page % 2);

	WRITE_ONCE(block->denied[page / 2], denied);
}

static inline bool kvm_gfn_block_is_empty(const struct kvm_gfn_block *block)
{
	return !memchr_inv(block->denied, 0, sizeof(block->denied));
}

static inline struct kvm_gfn_block *kvm_gfn_map_block(struct kvm_gfn_access_map *map,
						      gfn_t gfn)
{
	return xa_load(&map->blocks, kvm_gfn_block_index(gfn));
}

void kvm_gfn_map_init(struct kvm_gfn_access_map *map);
int kvm_gfn_map_add_block(struct kvm_gfn_access_map *map, gfn_t gfn);
unsigned int kvm_gfn_map_access(struct kvm_gfn_access_map *map, gfn_t gfn);
bool kvm_gfn_map_is_restricted(struct kvm_gfn_access_map *map, gfn_t gfn, u64 nr);
void kvm_gfn_map_free(struct kvm_gfn_access_map *map);

#endif
