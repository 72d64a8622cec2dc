// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi find
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "search.h"
#include "tool.h"

#define CHUNK		(256 * 1024)
#define PAGES		(CHUNK / KVMI_GUEST_PAGE)
#define BEFORE		16
#define AFTER		160
#define DEFAULT_MATCHES	20

struct find {
	struct tool *tool;
	struct search search;
	long long matches;
	long long max;
	__u64 from;
	__u64 to;
	__u64 read;
	double begin;
	double shown;
	bool failed;
};

/* How many printable characters there are before, or from, a place */
static size_t printable(const __u8 *at, size_t max, int step)
{
	size_t n;

	for (n = 0; n < max; n++, at += step)
		if (*at < 0x20 || *at > 0x7e)
			break;
	return n;
}

/* The printable text around a match, read anew: the guest may go on meanwhile. */
static bool show_match(struct find *find, __u64 gpa)
{
	size_t len = find->search.len, before = gpa < BEFORE ? gpa : BEFORE;
	__u8 text[BEFORE + SEARCH_MAX + AFTER];
	bool present[3];
	struct json *out = &find->tool->out;
	size_t size = before + len + AFTER, start, end;

	/* A string at the end of memory has nothing behind it: read as zeroes. */
	if (kvmi_read_memory(find->tool->conn, gpa - before, text, size, present))
		return false;

	start = before ? before - printable(text + before - 1, before, -1) : 0;
	end = before + len;
	end += printable(text + end, size - end, 1);

	if (find->tool->json) {
		json_object(out, NULL);
		json_hex(out, "gpa", gpa);
		json_text(out, "text", (char *)text + start, end - start);
		json_end(out);
		return true;
	}
	printf("%012llx  ", gpa);
	for (; start < end; start++)
		putchar(text[start] < 0x20 || text[start] > 0x7e ? '.' : text[start]);
	putchar('\n');
	fflush(stdout);
	return true;
}

static bool found(void *arg, __u64 gpa)
{
	struct find *find = arg;

	if (find->shown && !find->tool->json)
		fprintf(stderr, "\r\033[K");
	find->failed = !show_match(find, gpa);
	find->matches++;

	return find->failed || (find->max && find->matches >= find->max);
}

static void progress(struct find *find, __u64 gpa)
{
	double t = now();

	if (t - find->shown < 0.1)
		return;
	find->shown = t;
	fprintf(stderr, "\r%3.0f%%  0x%llx of 0x%llx, %lld found\033[K",
		100.0 * (gpa - find->from) / (find->to - find->from), gpa, find->to, find->matches);
}

/* Returns 1 when there are enough matches. */
static int scan(struct find *find)
{
	bool tty = isatty(STDERR_FILENO);
	static __u8 buf[CHUNK];
	bool present[PAGES];
	__u64 gpa = find->from;
	size_t i, n, first;

	while (gpa < find->to) {
		n = find->to - gpa < CHUNK ? find->to - gpa : CHUNK;
		if (kvmi_read_memory(find->tool->conn, gpa, buf, n, present))
			return -1;
		if (tty)
			progress(find, gpa);

		for (i = 0; i < n / KVMI_GUEST_PAGE; i++) {
			if (!present[i])
				continue;
			for (first = i; i < n / KVMI_GUEST_PAGE && present[i]; i++)
				find->read += KVMI_GUEST_PAGE;
			if (search_more(&find->search, gpa + first * KVMI_GUEST_PAGE,
					buf + first * KVMI_GUEST_PAGE,
					(i - first) * KVMI_GUEST_PAGE))
				return find->failed ? -1 : 1;
		}
		gpa += n;
	}
	return 0;
}

static void summary(struct find *find, int r)
{
	struct json *out = &find->tool->out;
	double seconds = now() - find->begin;

	if (find->tool->json) {
		json_end(out);
		json_number(out, "count", find->matches);
		json_bool(out, "complete", !r);
		json_number(out, "bytes", find->read);
		json_double(out, "seconds", seconds);
		json_end(out);
		return;
	}
	note("%lld match%s in %.1f MiB of guest memory, %.1f s%s", find->matches,
	     find->matches == 1 ? "" : "es", find->read / 1048576.0, seconds,
	     r ? "; there may be more (--count)" : "");
}

static int parse_needle(struct tool *tool, const char *arg, __u8 *needle, size_t *len)
{
	if (tool->hex) {
		if (!parse_hex_bytes(arg, needle, len))
			return fail(tool, STATUS_USAGE,
				    "'%s' is not made of bytes with two hexadecimal digits", arg);
		return 0;
	}

	if (!*arg || strlen(arg) > *len)
		return fail(tool, STATUS_USAGE, "a string of 1 to %d bytes is needed", SEARCH_MAX);
	*len = strlen(arg);
	memcpy(needle, arg, *len);
	return 0;
}

static int set_range(struct find *find)
{
	struct tool *tool = find->tool;
	__u64 gfn;

	if (kvmi_get_max_gfn(tool->conn, &gfn))
		return fail_conn(tool);

	find->to = gfn * KVMI_GUEST_PAGE;
	if (tool->to && tool->to < find->to)
		find->to = (tool->to + KVMI_GUEST_PAGE - 1) / KVMI_GUEST_PAGE * KVMI_GUEST_PAGE;
	find->from = tool->from / KVMI_GUEST_PAGE * KVMI_GUEST_PAGE;
	if (find->from >= find->to)
		return fail(tool, STATUS_USAGE, "guest memory ends at 0x%llx",
			    gfn * KVMI_GUEST_PAGE);

	return 0;
}

static int run(struct tool *tool, int argc, char **argv)
{
	__u8 needle[SEARCH_MAX];
	struct find find = {
		.tool = tool,
		.search = { .needle = needle, .len = sizeof(needle), .found = found, .arg = &find },
		.max = tool->count < 0 ? DEFAULT_MATCHES : tool->count,
		.begin = now(),
	};
	int r;

	(void)argc;

	r = parse_needle(tool, argv[0], needle, &find.search.len);
	if (!r)
		r = connect_vm(tool);
	if (!r && tool->pause && kvmi_pause(tool->conn, -1))
		r = fail_conn(tool);
	if (!r)
		r = set_range(&find);
	if (r)
		return r;

	if (tool->json) {
		json_object(&tool->out, NULL);
		json_array(&tool->out, "matches");
	}
	r = scan(&find);
	if (find.shown)
		fprintf(stderr, "\r\033[K");
	if (r < 0)
		return fail_conn(tool);

	summary(&find, r);
	kvmi_resume(tool->conn);
	return find.matches ? STATUS_OK : STATUS_NOTHING;
}

const struct command command_find = {
	.name = "find",
	.operands = "STRING",
	.min = 1,
	.max = 1,
	.vm = true,
	.options = "nfexp",
	.brief = "find a string in guest memory",
	.help =
	"Looks through all of the guest's memory. One line a match: its guest physical\n"
	"address and the printable text around it. A string may cross the pages of\n"
	"guest physical memory. Ends after 20 matches, or --count (0: all). The exit\n"
	"code is 1 if there is none.\n"
	"The VM goes on meanwhile, so that something that moves may be missed or seen\n"
	"twice; with --pause it stands still.\n",
	.run = run,
};
