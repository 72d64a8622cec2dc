// SPDX-License-Identifier: GPL-2.0
/*
 * Tests: numbers, names, JSON, searching, disassembling.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/elf.h>

#include "json.h"
#include "search.h"
#include "symbols.h"
#include "test.h"
#include "tool.h"

static void test_numbers(void)
{
	static const struct {
		const char *text;
		__u64 value;
	} good[] = {
		{ "0", 0 }, { "10", 10 }, { "010", 10 }, { "0x10", 16 }, { "0XfF", 255 },
		{ "4K", 4096 }, { "0x1k", 1024 }, { "2M", 2 << 20 }, { "3G", 3ULL << 30 },
		{ "1T", 1ULL << 40 }, { "0xffffffffffffffff", ~0ULL },
		{ "18446744073709551615", ~0ULL }, { "16777215T", 16777215ULL << 40 },
	};
	static const char * const bad[] = {
		"", "x", "0x", "-1", "+1", " 1", "1 ", "1KK", "1Q", "0xg", "18446744073709551616",
		"0x10000000000000000", "16777216T", "--1", "0x-1", "1.5",
	};
	__u64 value;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(good); i++)
		ok(parse_number(good[i].text, &value) && value == good[i].value,
		   "number '%s'", good[i].text);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		ok(!parse_number(bad[i], &value), "no number: '%s'", bad[i]);
}

static void test_hex(void)
{
	__u8 bytes[4];
	size_t len = sizeof(bytes);

	ok(parse_hex_bytes("de AD be0f", bytes, &len) && len == 4 &&
	   !memcmp(bytes, "\xde\xad\xbe\x0f", 4), "bytes");
	len = sizeof(bytes);
	ok(!parse_hex_bytes("de a", bytes, &len), "half a byte");
	len = sizeof(bytes);
	ok(!parse_hex_bytes("0x12", bytes, &len), "no digit");
	len = sizeof(bytes);
	ok(!parse_hex_bytes("0011223344", bytes, &len), "too many bytes");
	len = sizeof(bytes);
	ok(!parse_hex_bytes(" ", bytes, &len), "no bytes");
}

static void test_json(void)
{
	static const struct {
		const char *in;
		const char *out;
	} strings[] = {
		{ "plain", "\"plain\"\n" },
		{ "", "\"\"\n" },
		{ "a\"b\\c/", "\"a\\\"b\\\\c/\"\n" },
		{ "\n\t\r\x01\x1f\x7f", "\"\\n\\t\\u000d\\u0001\\u001f\\u007f\"\n" },
		{ "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
		  "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"\n" },
		/* Stray, overlong, surrogate, beyond the last, cut off */
		{ "\x80 \xff \xc0\xaf", "\"\\ufffd \\ufffd \\ufffd\\ufffd\"\n" },
		{ "\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"\n" },
		{ "\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"\n" },
		{ "\xe2\x82", "\"\\ufffd\\ufffd\"\n" },
	};
	struct json json = { 0 };
	char *text = NULL;
	size_t i, size;

	for (i = 0; i < ARRAY_SIZE(strings); i++) {
		json.file = open_memstream(&text, &size);
		json_array(&json, NULL);
		json_string(&json, NULL, strings[i].in);
		json_end(&json);
		fclose(json.file);
		/* What is between the brackets */
		text[size - 2] = '\n';
		text[size - 1] = '\0';
		is_string(text + 1, strings[i].out, "JSON string");
		free(text);
	}

	json.file = open_memstream(&text, &size);
	json_object(&json, NULL);
	json_string(&json, "s", "");
	json_number(&json, "n", -5);
	json_hex(&json, "h", 0xf);
	json_array(&json, "a");
	json_bool(&json, NULL, true);
	json_null(&json, NULL);
	json_object(&json, NULL);
	json_end(&json);
	json_end(&json);
	json_double(&json, "d", 1.5);
	json_end(&json);
	fclose(json.file);
	is_string(text, "{\"s\":\"\",\"n\":-5,\"h\":\"0xf\",\"a\":[true,null,{}],\"d\":1.500000}\n",
		  "JSON object");
	ok(is_json(text, "\n"), "the checker takes it");
	free(text);
}

static bool count(void *arg, __u64 gpa)
{
	(void)gpa;
	++*(int *)arg;
	return false;
}

static bool remember(void *arg, __u64 gpa)
{
	*(__u64 *)arg = gpa;
	return true;
}

/* How often it is found in @text when that comes in pieces of @piece bytes */
static int matches(const char *needle, const char *text, size_t piece)
{
	size_t at, len = strlen(text);
	int found = 0;
	struct search search = {
		.needle = (const __u8 *)needle, .len = strlen(needle),
		.found = count, .arg = &found,
	};

	for (at = 0; at < len; at += piece)
		search_more(&search, 0x1000 + at, (const __u8 *)text + at,
			    len - at < piece ? len - at : piece);
	return found;
}

static void test_search(void)
{
	static const struct {
		const char *needle;
		const char *text;
		int found;
	} cases[] = {
		{ "abc", "xxabcxxabcabcx", 3 }, { "aa", "aaaa", 3 }, { "a", "banana", 3 },
		{ "abab", "abababab", 3 }, { "long needle", "a long needle", 1 },
		{ "nothing", "is here", 0 }, { "end", "the end", 1 }, { "start", "start", 1 },
		{ "longer than the text", "short", 0 },
	};
	__u64 gpa = 0;
	struct search search = {
		.needle = (const __u8 *)"split", .len = 5, .found = remember, .arg = &gpa,
	};
	size_t i, piece;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		bool all = true;

		for (piece = 1; piece <= strlen(cases[i].text) + 1; piece++)
			all &= matches(cases[i].needle, cases[i].text, piece) == cases[i].found;
		ok(all, "'%s' in '%s', in pieces of any size", cases[i].needle, cases[i].text);
	}

	ok(!search_more(&search, 0x0ffd, (const __u8 *)"spl", 3), "half of it");
	ok(search_more(&search, 0x1000, (const __u8 *)"it!", 3) && gpa == 0xffd,
	   "the other half: the address is that of the first");

	search.tail_len = 0;
	search_more(&search, 0x0ffd, (const __u8 *)"spl", 3);
	ok(!search_more(&search, 0x2000, (const __u8 *)"it!", 3), "not across a hole");
}

static void test_names(void)
{
	static const struct {
		const char *name;
		__u32 index;
	} msrs[] = {
		{ "SYSENTER_CS", 0x174 }, { "SYSENTER_ESP", 0x175 }, { "SYSENTER_EIP", 0x176 },
		{ "MISC_FEATURES_ENABLES", 0x140 }, { "PAT", 0x277 }, { "EFER", 0xc0000080 },
		{ "STAR", 0xc0000081 }, { "LSTAR", 0xc0000082 }, { "CSTAR", 0xc0000083 },
		{ "FS_BASE", 0xc0000100 }, { "GS_BASE", 0xc0000101 },
		{ "KERNEL_GS_BASE", 0xc0000102 }, { "TSC_AUX", 0xc0000103 },
	};
	char buf[MSR_NAME];
	__u32 msr = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		is_string(kvmi_msr_name(msrs[i].index) ?: "", msrs[i].name, "name of an MSR");
		ok(kvmi_msr_index(msrs[i].name, &msr) && msr == msrs[i].index, "and back");
	}
	ok(kvmi_msr_index("lstar", &msr) && msr == 0xc0000082, "in lower case");
	ok(!kvmi_msr_index("LSTA", &msr) && !kvmi_msr_index("", &msr), "no MSR");
	is_string(msr_text(0xc0000082, buf), "LSTAR", "an MSR as text");
	is_string(msr_text(0xc0001fff, buf), "0xc0001fff", "one without name");

	is_string(kvmi_cr_name(0), "cr0", "cr0");
	is_string(kvmi_cr_name(3), "cr3", "cr3");
	is_string(kvmi_cr_name(4), "cr4", "cr4");
	ok(!kvmi_cr_name(1) && !kvmi_cr_name(5) && !kvmi_cr_name(255), "no other");
	is_string(kvmi_descriptor_name(KVMI_DESC_IDTR), "idtr", "idtr");
	is_string(kvmi_descriptor_name(KVMI_DESC_GDTR), "gdtr", "gdtr");
	is_string(kvmi_descriptor_name(KVMI_DESC_LDTR), "ldtr", "ldtr");
	is_string(kvmi_descriptor_name(KVMI_DESC_TR), "tr", "tr");
	ok(!kvmi_descriptor_name(0) && !kvmi_descriptor_name(5), "no other");
	is_string(kvmi_exception_name(14), "#PF", "#PF");
	is_string(kvmi_exception_name(0), "#DE", "#DE");
	is_string(kvmi_exception_name(3), "#BP", "#BP");
	ok(!kvmi_exception_name(9) && !kvmi_exception_name(32), "vectors without name");
}

static void test_disassemble(void)
{
	static const struct {
		__u8 mode;
		const char *bytes;
		const char *text;
		size_t len;
	} cases[] = {
		{ 8, "\x48\x89\xe5\x90", "mov rbp, rsp", 3 },
		{ 8, "\x90\x90\x90\x90", "nop", 1 },
		{ 8, "\xeb\xfe\x90\x90", "jmp 0x1000", 2 },
		{ 4, "\x48\x89\xe5\x90", "dec eax", 1 },
		{ 2, "\x89\xe5\x90\x90", "mov bp, sp", 2 },
		{ 8, "\x06\x90\x90\x90", "", 0 },
		{ 3, "\x90\x90\x90\x90", "", 0 },
		{ 255, "\x90\x90\x90\x90", "", 0 },
	};
	char text[64];
	size_t i, len;

	if (!disassemble(8, 0, (const __u8 *)"\x90", 1, text, sizeof(text))) {
		ok(true, "disassemble # SKIP there is no capstone, or it cannot be loaded");
		return;
	}
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		*text = '\0';
		len = disassemble(cases[i].mode, 0x1000, (const __u8 *)cases[i].bytes, 4, text,
				  sizeof(text));
		is_number(len, cases[i].len, "length of an instruction");
		is_string(text, cases[i].text, "its text");
	}
	is_number(disassemble(8, 0, (const __u8 *)"\x48\x89", 2, text, sizeof(text)), 0,
		  "half an instruction");
	is_number(disassemble(8, 0, NULL, 0, text, sizeof(text)), 0, "none");
}

static char symbols_path[32] = "/tmp/kvmi-symbols-XXXXXX";

static int load(const void *data, size_t size, struct symbols *symbols)
{
	struct tool tool = { 0 };
	FILE *file = fopen(symbols_path, "w");

	fwrite(data, 1, size, file);
	fclose(file);
	*symbols = (struct symbols){ 0 };
	return symbols_load(&tool, symbols_path, symbols);
}

static void test_map(void)
{
	/* Not in order, with what is none, and without end of line */
	static const char map[] =
		"ffffffff81000200 T second\n"
		"0000000000001000 A per_cpu\n"
		"\n"
		"ffffffff81000100 t a_local\n"
		"ffffffff81000100 T a_global\n"
		"ffffffff81000100 t z_local\n"
		"ffffffff81000300\n"
		"ffffffff81000500 B _end\n"
		"x T y\n"
		"ffffffffc0000000 t in_module\t[module]\r\n"
		"ffffffff81000400 D last";
	char buf[SYMBOL_NAME];
	struct symbols symbols;
	__u64 address = 0;

	is_number(load(map, strlen(map), &symbols), 0, "a map");
	is_number(symbols.nr, 7, "its symbols");
	ok(symbols_find(&symbols, "second", &address) && address == 0xffffffff81000200ULL,
	   "find one");
	ok(!symbols_find(&symbols, "secon", &address) &&
	   !symbols_find(&symbols, "per_cpu", &address), "not what is none");
	ok(!symbols_text(&symbols, 0xffffffff810000ff, buf), "nothing before the first");
	is_string(symbols_text(&symbols, 0xffffffff81000100, buf) ?: "", "a_global+0x0",
		  "the global one of several");
	is_string(symbols_text(&symbols, 0xffffffff810001ff, buf) ?: "", "a_global+0xff",
		  "up to the next one");
	is_string(symbols_text(&symbols, 0xffffffff81000200, buf) ?: "", "second+0x0", "that");
	is_string(symbols_text(&symbols, 0xffffffff81000401, buf) ?: "", "last+0x1",
		  "without end of line");
	is_string(symbols_text(&symbols, 0xffffffffc0000010, buf) ?: "", "in_module+0x10",
		  "without what is behind it");
	ok(!symbols_text(&symbols, 0xffffffff81000500, buf), "not behind the end");
	ok(!symbols_text(&symbols, 0xffffffffc0001000, buf), "nor far behind the last");
	symbols.slide = 0x1000000;
	ok(symbols_find(&symbols, "second", &address) && address == 0xffffffff82000200ULL,
	   "moved");
	is_string(symbols_text(&symbols, 0xffffffff82000201, buf) ?: "", "second+0x1", "moved");
	symbols_free(&symbols);
	ok(!symbols_text(&symbols, -1, buf), "no symbols");
	is_number(load("hello\n", 6, &symbols), STATUS_USAGE, "no map");
	is_number(load("", 0, &symbols), STATUS_USAGE, "an empty file");
}

/* As small a vmlinux as there can be */
struct image {
	struct elf64_hdr ehdr;
	struct elf64_shdr sections[3];
	struct elf64_sym symbols[4];
	char names[32];
};

static const struct image good_image = {
	.ehdr = {
		.e_ident = ELFMAG "\2\1\1", .e_shoff = offsetof(struct image, sections),
		.e_shentsize = sizeof(struct elf64_shdr), .e_shnum = 3,
	},
	.sections = {
		[1] = { .sh_type = SHT_SYMTAB, .sh_offset = offsetof(struct image, symbols),
			.sh_size = 4 * sizeof(struct elf64_sym), .sh_link = 2 },
		[2] = { .sh_type = SHT_STRTAB, .sh_offset = offsetof(struct image, names),
			.sh_size = sizeof(((struct image *)0)->names) },
	},
	.symbols = {
		[1] = { .st_name = 1, .st_value = 0xffffffff81000100ULL, .st_shndx = 1 },
		[2] = { .st_name = 9, .st_value = 0xffffffff81000100ULL, .st_shndx = 1,
			.st_info = STB_GLOBAL << 4 | STT_FUNC },
		[3] = { .st_name = 16, .st_value = 0xffffffff81000200ULL,
			.st_shndx = SHN_UNDEF },
	},
	.names = "\0z_local\0global\0undefined",
};

static void test_elf(void)
{
	struct image image = good_image;
	char buf[SYMBOL_NAME];
	struct symbols symbols;
	size_t size;
	bool all = true;

	is_number(load(&image, sizeof(image), &symbols), 0, "a vmlinux");
	is_number(symbols.nr, 2, "its symbols");
	is_string(symbols_text(&symbols, 0xffffffff81000180, buf) ?: "", "global+0x80",
		  "the global one");
	symbols_free(&symbols);

	/* Whatever the file is like */
	for (size = 0; size < sizeof(image); size++) {
		int r = load(&image, size, &symbols);

		all &= r == STATUS_USAGE || !r;
		symbols_free(&symbols);
	}
	ok(all, "a file that ends early, anywhere");
	image.sections[1].sh_link = 3;
	is_number(load(&image, sizeof(image), &symbols), STATUS_USAGE, "names that are not there");
	image = good_image;
	image.sections[1].sh_size = -1;
	is_number(load(&image, sizeof(image), &symbols), STATUS_USAGE, "an endless table");
	image = good_image;
	image.symbols[1].st_name = 32;
	image.symbols[2].st_name = 32;
	is_number(load(&image, sizeof(image), &symbols), STATUS_USAGE, "names out of range");
	image = good_image;
	image.ehdr.e_shoff = -64;
	is_number(load(&image, sizeof(image), &symbols), STATUS_USAGE, "sections out of range");
}

static void test_symbols(void)
{
	int fd = mkstemp(symbols_path);

	if (fd < 0)
		exit(2);
	close(fd);
	test_map();
	test_elf();
	unlink(symbols_path);
}

void test_units(void)
{
	test_symbols();
	test_numbers();
	test_names();
	test_hex();
	test_json();
	test_search();
	test_disassemble();
}
