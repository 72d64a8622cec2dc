/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kvmi: the symbols of a kernel.
 */
#ifndef KVMI_SYMBOLS_H
#define KVMI_SYMBOLS_H

#include "tool.h"

#define SYMBOL_NAME	160

struct symbol {
	__u64 address;
	bool global;
	char *name;
};

/**
 * struct symbols - those of a file
 * @list: by address; of several at the same one, global ones come last
 * @nr: how many
 * @slide: what is to be added to an address of the file, modulo 2^64
 */
struct symbols {
	struct symbol *list;
	size_t nr;
	__u64 slide;
};

int symbols_load(struct tool *tool, const char *path, struct symbols *symbols);
bool symbols_find(const struct symbols *symbols, const char *name, __u64 *address);
const char *symbols_text(const struct symbols *symbols, __u64 address, char buf[SYMBOL_NAME]);
void symbols_free(struct symbols *symbols);

#endif
