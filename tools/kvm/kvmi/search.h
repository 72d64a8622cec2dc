/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kvmi: find a string in memory that is read piece by piece.
 */
#ifndef KVMI_SEARCH_H
#define KVMI_SEARCH_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#define SEARCH_MAX	1024

/**
 * struct search - a search under way
 * @needle: what is looked for
 * @len: its length, 1 to SEARCH_MAX
 * @found: called for each match; true ends the search
 * @arg: for @found
 * @next: the address behind what was seen
 * @tail: the last bytes before that, less than the needle
 * @tail_len: how many
 */
struct search {
	const __u8 *needle;
	size_t len;
	bool (*found)(void *arg, __u64 gpa);
	void *arg;
	__u64 next;
	__u8 tail[SEARCH_MAX];
	size_t tail_len;
};

bool search_more(struct search *search, __u64 gpa, const __u8 *data, size_t n);

#endif
