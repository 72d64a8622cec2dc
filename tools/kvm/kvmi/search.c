// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: find a string in memory that is read piece by piece.
 */
#include <string.h>

#include "search.h"

static bool search_in(struct search *search, __u64 gpa, const __u8 *data, size_t n)
{
	const __u8 *at = data, *end = data + n;

	while ((at = memmem(at, end - at, search->needle, search->len))) {
		if (search->found(search->arg, gpa + (at - data)))
			return true;
		at++;
	}
	return false;
}

/* Look into the next piece; returns true when the search is over. */
bool search_more(struct search *search, __u64 gpa, const __u8 *data, size_t n)
{
	size_t keep = search->len - 1, head = n < keep ? n : keep;
	__u8 joint[2 * SEARCH_MAX];

	/* What lies behind a hole does not continue what lies before it. */
	if (gpa != search->next)
		search->tail_len = 0;
	search->next = gpa + n;

	/* A match that begins in the tail ends in the head. */
	memcpy(joint, search->tail, search->tail_len);
	memcpy(joint + search->tail_len, data, head);
	if (search->tail_len &&
	    search_in(search, gpa - search->tail_len, joint, search->tail_len + head))
		return true;
	if (search_in(search, gpa, data, n))
		return true;

	if (n >= keep) {
		memcpy(search->tail, data + n - keep, keep);
		search->tail_len = keep;
	} else {
		size_t len = search->tail_len + n, drop = len > keep ? len - keep : 0;

		memcpy(search->tail, joint + drop, len - drop);
		search->tail_len = len - drop;
	}
	return false;
}
