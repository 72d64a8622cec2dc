// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: the symbols of a kernel, from a System.map, /proc/kallsyms or vmlinux.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/elf.h>

#include "symbols.h"

/* Where the kernel is linked to; below are offsets of per-CPU variables and the like. */
#define LOWEST	0xffffffff80000000ULL

/* Returns false if there is no memory for it. */
static bool add(struct symbols *symbols, __u64 address, bool global, const char *name,
		size_t len)
{
	struct symbol *list = symbols->list;

	if (address < LOWEST || !len)
		return true;

	/* Doubles whenever it is full. */
	if (!(symbols->nr & (symbols->nr - 1))) {
		list = realloc(list, (symbols->nr ? 2 * symbols->nr : 1) * sizeof(*list));
		if (!list)
			return false;
		symbols->list = list;
	}
	list[symbols->nr].address = address;
	list[symbols->nr].global = global;
	list[symbols->nr].name = strndup(name, len);

	return list[symbols->nr++].name;
}

/* "ffffffff81000000 T _text", in /proc/kallsyms with the module behind it */
static bool read_map(struct symbols *symbols, const char *text, size_t size)
{
	const char *line = text, *end = text + size;

	while (line < end) {
		const char *next = memchr(line, '\n', end - line) ?: end;
		char word[SYMBOL_NAME + 32], *rest, *name;
		unsigned long long address;
		size_t len = next - line;

		if (len >= sizeof(word))
			len = sizeof(word) - 1;
		memcpy(word, line, len);
		word[len] = '\0';
		line = next + 1;

		errno = 0;
		address = strtoull(word, &rest, 16);
		if (errno || rest == word || rest[0] != ' ' || !rest[1] || rest[2] != ' ')
			continue;
		name = rest + 3;
		if (!add(symbols, address, isupper((unsigned char)rest[1]), name,
			 strcspn(name, " \t\r")))
			return false;
	}

	return true;
}

/* Does [@offset, @offset + @len) lie in the file? */
static bool inside(size_t size, __u64 offset, __u64 len)
{
	return offset <= size && len <= size - offset;
}

static bool read_table(struct symbols *symbols, const __u8 *elf, size_t size,
		       const struct elf64_shdr *table, const struct elf64_shdr *strings)
{
	struct elf64_sym sym;
	__u64 at;

	if (!inside(size, table->sh_offset, table->sh_size) ||
	    !inside(size, strings->sh_offset, strings->sh_size))
		return true;

	for (at = 0; at + sizeof(sym) <= table->sh_size; at += sizeof(sym)) {
		const char *name;

		memcpy(&sym, elf + table->sh_offset + at, sizeof(sym));
		if (sym.st_name >= strings->sh_size || sym.st_shndx == SHN_UNDEF)
			continue;
		name = (const char *)elf + strings->sh_offset + sym.st_name;
		if (!add(symbols, sym.st_value, ELF_ST_BIND(sym.st_info) == STB_GLOBAL, name,
			 strnlen(name, strings->sh_size - sym.st_name)))
			return false;
	}

	return true;
}

static bool read_elf(struct symbols *symbols, const __u8 *elf, size_t size)
{
	struct elf64_shdr table, strings;
	struct elf64_hdr ehdr;
	unsigned int i;

	memcpy(&ehdr, elf, sizeof(ehdr));
	if (ehdr.e_ident[EI_CLASS] != ELFCLASS64 || ehdr.e_shentsize != sizeof(table) ||
	    !inside(size, ehdr.e_shoff, (__u64)ehdr.e_shnum * sizeof(table)))
		return true;

	for (i = 0; i < ehdr.e_shnum; i++) {
		memcpy(&table, elf + ehdr.e_shoff + i * sizeof(table), sizeof(table));
		if (table.sh_type != SHT_SYMTAB || table.sh_link >= ehdr.e_shnum)
			continue;
		memcpy(&strings, elf + ehdr.e_shoff + table.sh_link * sizeof(table),
		       sizeof(strings));
		if (!read_table(symbols, elf, size, &table, &strings))
			return false;
	}

	return true;
}

static int by_address(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	if (x->global != y->global)
		return y->global ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* All of a file; files in /proc have no size. NULL: errno says why */
static char *read_file(const char *path, size_t *size)
{
	size_t room = 0, got = 0;
	char *text = NULL, *more;
	ssize_t n = 1;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;

	while (n > 0) {
		if (got == room) {
			room = room ? 2 * room : 1 << 20;
			more = realloc(text, room);
			if (!more) {
				n = -1;
				break;
			}
			text = more;
		}
		n = read(fd, text + got, room - got);
		if (n > 0)
			got += n;
	}
	close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	*size = got;

	return text;
}

/* 0, or the exit code after having said why */
int symbols_load(struct tool *tool, const char *path, struct symbols *symbols)
{
	size_t size = 0;
	char *text = read_file(path, &size);
	bool good;

	if (!text)
		return fail(tool, STATUS_USAGE, "cannot read %s: %s", path, strerror(errno));

	if (size >= sizeof(struct elf64_hdr) && !memcmp(text, ELFMAG, SELFMAG))
		good = read_elf(symbols, (__u8 *)text, size);
	else
		good = read_map(symbols, text, size);
	free(text);
	if (!good)
		return fail(tool, STATUS_FAILED, "out of memory");
	if (!symbols->nr)
		return fail(tool, STATUS_USAGE,
			    "%s has no symbols of a 64-bit kernel: a System.map, a vmlinux that is not stripped, or the guest's /proc/kallsyms as its root sees it is needed",
			    path);

	qsort(symbols->list, symbols->nr, sizeof(*symbols->list), by_address);
	return 0;
}

/* @address: out: where it is in the guest */
bool symbols_find(const struct symbols *symbols, const char *name, __u64 *address)
{
	size_t i;

	for (i = 0; i < symbols->nr; i++) {
		if (!strcmp(symbols->list[i].name, name)) {
			*address = symbols->list[i].address + symbols->slide;
			return true;
		}
	}
	return false;
}

/* The last symbol is not what lies far behind it, and "_end" is none of anything. */
static bool is_inside(const struct symbols *symbols, size_t i, __u64 offset)
{
	if (!strcmp(symbols->list[i].name, "_end"))
		return false;
	return i < symbols->nr - 1 || offset < KVMI_GUEST_PAGE;
}

/* "name+0x10"; NULL: the symbols do not have it */
const char *symbols_text(const struct symbols *symbols, __u64 address, char buf[SYMBOL_NAME])
{
	size_t low = 0, high = symbols->nr;
	__u64 offset;

	/* The first that is behind it */
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (symbols->list[middle].address + symbols->slide <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return NULL;

	low--;
	offset = address - (symbols->list[low].address + symbols->slide);
	if (!is_inside(symbols, low, offset))
		return NULL;
	snprintf(buf, SYMBOL_NAME, "%.128s+0x%llx", symbols->list[low].name, offset);
	return buf;
}

void symbols_free(struct symbols *symbols)
{
	size_t i;

	for (i = 0; i < symbols->nr; i++)
		free(symbols->list[i].name);
	free(symbols->list);
	*symbols = (struct symbols){ 0 };
}
