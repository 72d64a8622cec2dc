// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: instructions as text, if the library capstone is there.
 *
 * It is looked for at run time: neither building nor running kvmi needs it.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "tool.h"

/* A static program cannot load it, and goes without. */
#ifdef KVMI_STATIC

size_t disassemble(__u8 mode, __u64 rip, const __u8 *bytes, size_t len, char *text, size_t size)
{
	(void)mode;
	(void)rip;
	(void)bytes;
	(void)len;
	(void)text;
	(void)size;
	return 0;
}

#else

#define ARCH_X86	3

/* What struct cs_insn begins with, in all versions */
struct insn {
	unsigned int id;
	__u64 address;
	__u16 size;
};

/* How far the text may be from the beginning of struct cs_insn; it is longer. */
#define TEXT_MAX	128

static struct {
	bool tried;
	bool usable;
	size_t mnemonic;	/* where in struct cs_insn; versions differ */
	size_t operands;
	int (*open)(int arch, int mode, size_t *handle);
	size_t (*disasm)(size_t handle, const __u8 *code, size_t size, __u64 address, size_t count,
			 struct insn **insn);
	void (*free)(struct insn *insn, size_t count);
	size_t handles[9];	/* by size of operands */
} lib;

/* The modes of the library are bits with the value of the operand size in bytes. */
static struct insn *decode(__u8 mode, __u64 rip, const __u8 *bytes, size_t len)
{
	struct insn *insn;

	if (mode != 2 && mode != 4 && mode != 8)
		return NULL;
	if (!lib.handles[mode] && lib.open(ARCH_X86, mode, &lib.handles[mode]))
		return NULL;
	return lib.disasm(lib.handles[mode], bytes, len, rip, 1, &insn) ? insn : NULL;
}

static size_t find_text(const struct insn *insn, const char *text)
{
	const char *at = memmem(insn, TEXT_MAX, text, strlen(text) + 1);

	return at ? at - (const char *)insn : 0;
}

/* Find the parts of struct cs_insn by an instruction that is known. */
static bool find_parts(void)
{
	struct insn *insn = decode(8, 0, (const __u8 *)"\x48\x89\xe5", 3);

	if (!insn)
		return false;
	lib.mnemonic = find_text(insn, "mov");
	lib.operands = find_text(insn, "rbp, rsp");
	lib.usable = lib.mnemonic && lib.operands && insn->size == 3;
	lib.free(insn, 1);

	return lib.usable;
}

static bool find_library(void)
{
	static const char * const names[] = { "libcapstone.so.5", "libcapstone.so.4" };
	void *handle = NULL;
	size_t i;

	if (lib.tried)
		return lib.usable;

	lib.tried = true;
	for (i = 0; i < ARRAY_SIZE(names) && !handle; i++)
		handle = dlopen(names[i], RTLD_NOW);
	if (!handle)
		return false;
	lib.open = dlsym(handle, "cs_open");
	lib.disasm = dlsym(handle, "cs_disasm");
	lib.free = dlsym(handle, "cs_free");

	return lib.open && lib.disasm && lib.free && find_parts();
}

/*
 * The instruction at @rip as @text, @mode is the operand size of the code
 * segment. Returns its length, 0: there is no way to tell.
 */
size_t disassemble(__u8 mode, __u64 rip, const __u8 *bytes, size_t len, char *text, size_t size)
{
	struct insn *insn;
	size_t n;

	if (!find_library())
		return 0;
	insn = decode(mode, rip, bytes, len);
	if (!insn)
		return 0;

	snprintf(text, size, "%s %s", (const char *)insn + lib.mnemonic,
		 (const char *)insn + lib.operands);
	n = strlen(text);
	if (n && text[n - 1] == ' ')
		text[n - 1] = '\0';
	n = insn->size;
	lib.free(insn, 1);

	return n;
}

#endif
