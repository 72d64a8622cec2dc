// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi dump
 */
#include <ctype.h>
#include <string.h>

#include "tool.h"

#define LINE	16
#define CHUNK	(64 * 1024)
#define PAGES	(CHUNK / KVMI_GUEST_PAGE + 1)

/**
 * struct dump - a dump under way
 * @tool: how it is wanted
 * @line: what does not fill a line yet
 * @len: bytes of it
 * @gpa: where it is in guest memory
 * @last: the line before, to show equal ones once
 * @has_last: there is one
 * @folded: it was not the first
 * @hole: where a hole begins
 * @hole_len: how long it is so far
 */
struct dump {
	struct tool *tool;
	__u8 line[LINE];
	size_t len;
	__u64 gpa;
	__u8 last[LINE];
	bool has_last;
	bool folded;
	__u64 hole;
	__u64 hole_len;
};

static void print_line(struct dump *dump)
{
	size_t i, n = dump->len;

	if (!n)
		return;
	dump->len = 0;
	if (n == LINE && dump->has_last && !memcmp(dump->last, dump->line, LINE)) {
		if (!dump->folded)
			puts("*");
		dump->folded = true;
		return;
	}
	dump->folded = false;
	dump->has_last = n == LINE;
	memcpy(dump->last, dump->line, n);

	printf("%012llx ", dump->gpa);
	for (i = 0; i < LINE; i++) {
		if (i == LINE / 2)
			putchar(' ');
		if (i < n)
			printf(" %02x", dump->line[i]);
		else
			printf("   ");
	}
	printf("  |");
	for (i = 0; i < n; i++)
		putchar(dump->line[i] >= 0x20 && dump->line[i] < 0x7f ? dump->line[i] : '.');
	puts("|");
}

/* Lines go on from one page to the next. */
static void print_bytes(struct dump *dump, __u64 gpa, const __u8 *data, size_t n)
{
	while (n--) {
		if (!dump->len)
			dump->gpa = gpa;
		dump->line[dump->len++] = *data++;
		gpa++;
		if (dump->len == LINE)
			print_line(dump);
	}
}

static void end_hole(struct dump *dump)
{
	if (!dump->hole_len)
		return;

	if (dump->tool->json) {
		json_object(&dump->tool->out, NULL);
		json_hex(&dump->tool->out, "gpa", dump->hole);
		json_number(&dump->tool->out, "hole", dump->hole_len);
		json_end(&dump->tool->out);
	} else {
		printf("%012llx  -- no memory: %llu bytes --\n", dump->hole, dump->hole_len);
	}
	dump->hole_len = 0;
	dump->has_last = false;
	dump->folded = false;
}

static void show(struct dump *dump, __u64 gpa, const __u8 *data, size_t n, bool present)
{
	struct tool *tool = dump->tool;

	if (tool->raw) {
		fwrite(data, 1, n, stdout);
		return;
	}
	if (!present) {
		print_line(dump);
		if (!dump->hole_len)
			dump->hole = gpa;
		dump->hole_len += n;
		return;
	}

	end_hole(dump);
	if (tool->json) {
		json_object(&tool->out, NULL);
		json_hex(&tool->out, "gpa", gpa);
		json_bytes(&tool->out, "data", data, n);
		json_end(&tool->out);
		return;
	}
	print_bytes(dump, gpa, data, n);
}

/* Pages are shown one by one: holes have their size. */
static int dump_range(struct dump *dump, __u64 gpa, __u64 len)
{
	static __u8 buf[CHUNK];
	bool present[PAGES];

	while (len) {
		size_t n = CHUNK - gpa % KVMI_GUEST_PAGE, done, part, page;

		if (n > len)
			n = len;
		if (kvmi_read_memory(dump->tool->conn, gpa, buf, n, present))
			return fail_conn(dump->tool);

		for (done = 0, page = 0; done < n; done += part, page++) {
			part = KVMI_GUEST_PAGE - (gpa + done) % KVMI_GUEST_PAGE;
			if (part > n - done)
				part = n - done;
			show(dump, gpa + done, buf + done, part, present[page]);
		}
		gpa += n;
		len -= n;
	}
	print_line(dump);
	end_hole(dump);

	return STATUS_OK;
}

static int run(struct tool *tool, int argc, char **argv)
{
	struct dump dump = { .tool = tool };
	__u64 gpa, len;
	int r;

	(void)argc;

	if (!parse_number(argv[0], &gpa))
		return fail(tool, STATUS_USAGE, "%s is no address", argv[0]);
	if (!parse_number(argv[1], &len) || !len || gpa + len < gpa)
		return fail(tool, STATUS_USAGE, "%s is no length", argv[1]);
	if (tool->raw && tool->json)
		return fail(tool, STATUS_USAGE, "--raw and --json exclude each other");

	r = connect_vm(tool);
	/* Whether they run or not does not matter: memory stays as it is. */
	if (!r && !tool->live && kvmi_pause(tool->conn, -1))
		r = fail_conn(tool);
	if (r)
		return r;

	if (tool->json) {
		json_object(&tool->out, NULL);
		json_hex(&tool->out, "gpa", gpa);
		json_number(&tool->out, "length", len);
		json_array(&tool->out, "memory");
	}
	r = dump_range(&dump, gpa, len);
	if (tool->json && !r) {
		json_end(&tool->out);
		json_end(&tool->out);
	} else if (!r && !tool->raw) {
		printf("%012llx\n", gpa + len);
	}

	kvmi_resume(tool->conn);
	return r;
}

const struct command command_dump = {
	.name = "dump",
	.operands = "GPA LENGTH",
	.min = 2,
	.max = 2,
	.vm = true,
	.options = "lr",
	.brief = "show guest memory",
	.help =
	"GPA is a guest physical address, LENGTH counts bytes; both are decimal or 0x\n"
	"and hexadecimal, with K, M, G or T for units. Equal lines are shown once and a\n"
	"'*'; where the guest has no memory it says so (--raw: zeroes).\n"
	"The vCPUs are paused while memory is read, so that all of it belongs together;\n"
	"with --live they go on.\n",
	.run = run,
};
